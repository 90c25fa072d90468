"""Hello world by a simple queue: a publisher, then a consumer, each with a connection of its own.

Prints:
    Sent: helloworld
    Received: helloworld
    {'hello': 'compressed world'}
    Empty
"""

import sys

from kombu import Connection

with Connection(sys.argv[1]) as conn:
    simple_queue = conn.SimpleQueue("guide-simple")
    simple_queue.put("helloworld")
    print("Sent: helloworld")
    simple_queue.put({"hello": "compressed world"}, serializer="json", compression="zlib")
    simple_queue.close()

with Connection(sys.argv[1]) as conn:
    simple_queue = conn.SimpleQueue("guide-simple")
    message = simple_queue.get(block=True, timeout=10)
    print(f"Received: {message.payload}")
    message.ack()
    simple_queue.close()

with Connection(sys.argv[1]) as conn, conn.SimpleQueue("guide-simple") as simple_queue:
    message = simple_queue.get(block=True, timeout=10)
    message.ack()
    print(message.payload)
    try:
        simple_queue.get(block=False)
    except simple_queue.Empty:
        print("Empty")
