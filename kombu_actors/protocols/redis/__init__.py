"""Redis as a message broker: kombu's keys, and scripts that change them in one step each.  Pure: no input, output or clock."""
