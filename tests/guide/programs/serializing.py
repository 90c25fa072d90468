"""JSON with dates and UUIDs, YAML, msgpack and pickle, by producer and by message; raw bytes; what nobody accepts.

Prints:
    json {'at': datetime.datetime(2026, 1, 2, 3, 4, 5), 'price': Decimal('1.50'), 'who': UUID('00000000-0000-0000-0000-000000000007')}
    application/x-yaml {'n': [1, 2]}
    application/x-python-serialize (1, 2)
    application/x-msgpack {'n': 3}
    image/jpeg binary b'\\xff\\xd8'
    refused: ContentDisallowed
    by its type: (3, 4)
"""  # noqa: E501

import sys
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from kombu import Connection, Consumer, Producer, Queue
from kombu.exceptions import ContentDisallowed

queue = Queue("guide-serializing", routing_key="guide-serializing")
seen = []


def callback(body, message):
    seen.append((message.content_type, message.content_encoding, body))
    message.ack()


with Connection(sys.argv[1]) as conn, conn.channel() as channel:

    def send(body, **keywords):
        Producer(channel, routing_key=queue.name).publish(body, **keywords)
        conn.drain_events(timeout=10)

    with Consumer(channel, [queue], accept=["json", "yaml", "pickle", "msgpack"], callbacks=[callback]):
        send({"at": datetime(2026, 1, 2, 3, 4, 5), "price": Decimal("1.50"), "who": UUID(int=7)})
        print("json", dict(sorted(seen[-1][2].items())))
        Producer(channel, routing_key=queue.name, serializer="yaml").publish({"n": [1, 2]})
        conn.drain_events(timeout=10)
        print(seen[-1][0], seen[-1][2])
        for body, serializer in (((1, 2), "pickle"), ({"n": 3}, "msgpack")):
            send(body, serializer=serializer)
            print(seen[-1][0], seen[-1][2])

    # Bytes with a type of their own go as they are.
    def raw(message):
        print(message.content_type, message.content_encoding, bytes(message.body))
        message.ack()

    with Consumer(channel, [queue], on_message=raw):
        send(b"\xff\xd8", content_type="image/jpeg", content_encoding="binary")

    # JSON alone is accepted by default.
    def disallowed(message, exc):
        print("refused:", type(exc).__name__)
        message.reject()

    assert issubclass(ContentDisallowed, Exception)
    with Consumer(channel, [queue], callbacks=[callback], on_decode_error=disallowed):
        send((3, 4), serializer="pickle")
    with Consumer(channel, [queue], accept=["application/x-python-serialize"], callbacks=[callback]):
        send((3, 4), serializer="pickle")
        print("by its type:", seen[-1][2])
