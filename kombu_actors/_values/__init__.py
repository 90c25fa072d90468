"""Values: frozen, comparable, no I/O.  Any layer may import them."""
