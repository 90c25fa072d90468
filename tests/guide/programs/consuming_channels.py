"""Two consumers, each with a channel and queues of its own, drained by way of their connection.

Prints:
    first channel: queue11
    first channel: queue12
    second channel: queue21
    second channel: queue22
"""

import sys

from kombu import Connection, Consumer, Queue
from kombu.utils.compat import nested

queues1 = [Queue(f"guide-queue{n}", routing_key=f"guide-queue{n}") for n in (11, 12)]
queues2 = [Queue(f"guide-queue{n}", routing_key=f"guide-queue{n}") for n in (21, 22)]
heard = []


def hear(who):
    def callback(body, message):
        heard.append(f"{who}: {body}")
        message.ack()

    return callback


with Connection(sys.argv[1]) as connection, connection.channel() as channel1, connection.channel() as channel2:
    first = Consumer(channel1, queues1, accept=["json"], callbacks=[hear("first channel")])
    second = Consumer(channel2, queues2, accept=["json"], callbacks=[hear("second channel")])
    with nested(first, second):
        for queue in queues1 + queues2:
            connection.Producer().publish(queue.name.removeprefix("guide-"), routing_key=queue.name, serializer="json")
        while len(heard) < 4:
            connection.drain_events(timeout=10)
print(*sorted(heard), sep="\n")
