"""Redis as a broker: kombu's keys, and scripts that change them in one step each.  No input, output or clock."""
