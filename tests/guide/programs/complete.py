"""A sender with serializer and compression; a receiver that shows what comes with a message, in ``eventloop``.

Prints:
    Received message: {'hello': 'world'}
    application/json utf-8
    exchange guide-demo
    routing_key guide-demo
    redelivered False
"""

import sys

from kombu import Connection, Consumer, Exchange, Producer, Queue, eventloop

exchange = Exchange("guide-demo", type="direct")
queue = Queue("guide-demo", exchange, routing_key="guide-demo")

with Connection(sys.argv[1]) as connection:
    Producer(connection).publish(
        {"hello": "world"},
        exchange=exchange,
        routing_key="guide-demo",
        serializer="json",
        compression="zlib",
        declare=[queue],
    )


def handle_message(body, message):
    print(f"Received message: {body!r}")
    print(message.content_type, message.content_encoding)
    for key in ("exchange", "routing_key"):
        print(key, message.delivery_info[key])
    print("redelivered", bool(message.delivery_info.get("redelivered")))
    message.ack()


with Connection(sys.argv[1]) as connection, Consumer(connection, queue, callbacks=[handle_message]):
    for _ in eventloop(connection, limit=1, timeout=10):
        pass
