"""Kombu's API: publish a message, consume it, acknowledge it.

    python examples/hello_publisher_consumer.py [URL]

The same program runs on kombu, with ``kombu`` in place of ``kombu_actors``.
"""

from __future__ import annotations

import sys
from typing import Any

from kombu_actors import Connection, Consumer, Exchange, Message, Producer, Queue

media = Exchange("media", type="direct", durable=True)
videos = Queue("video", exchange=media, routing_key="video")


def process(body: Any, message: Message) -> None:
    print(f"received {body!r}")
    message.ack()


def main(url: str = "memory://hello") -> None:
    # The first use connects; leaving the block waits until every publish is confirmed.
    with Connection(url) as connection:
        with connection.channel() as channel:
            producer = Producer(channel, exchange=media, routing_key="video")
            # ``declare`` makes exchange, queue and binding, now and again in every later session.
            producer.publish({"name": "a.mpg", "size": 1301013}, declare=[videos])
        with connection.channel() as channel, Consumer(channel, [videos], callbacks=[process]):
            # Callbacks run here, in this thread; a lost connection is restored behind this call.
            connection.drain_events(timeout=10)


if __name__ == "__main__":
    main(*sys.argv[1:])
