"""Protocol engines without I/O: AMQP 0-9-1's client side, the in-process broker, the ledger of publishes."""
