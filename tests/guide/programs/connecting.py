"""Connections: made when they are needed or asked for, released after use, without their password in what is printed.

Prints:
    False
    True
    again True
    <Connection: URL at 0xID>
    released
    the block: True
    after it: False
"""

import re
import sys

from kombu import Connection

URL = sys.argv[1]

connection = Connection(URL)
print(connection.connected)
connection.connect()
print(connection.connected)
connection.connect()
print("again", connection.connected)
assert "secret" not in repr(Connection("amqp://me:secret@localhost//"))
print(re.sub(r"0x\w+", "0xID", repr(connection)).replace(connection.as_uri(), "URL"))
connection.release()
print("released")

with Connection(URL) as conn:
    conn.connect()
    print("the block:", conn.connected)
print("after it:", bool(conn.connected))
