"""A worker from ``ConsumerMixin``: its consumers and what they do with a message.

Prints:
    RECEIVED MESSAGE: {'number': 1}
    RECEIVED MESSAGE: {'number': 2}
"""

import sys

from kombu import Connection, Queue
from kombu.mixins import ConsumerMixin

queue = Queue("guide-mixin", routing_key="guide-mixin")


class Worker(ConsumerMixin):
    def __init__(self, connection):
        self.connection = connection
        self.count = 0

    def get_consumers(self, Consumer, channel):
        return [Consumer([queue], callbacks=[self.on_message], accept=["json"])]

    def on_message(self, body, message):
        print(f"RECEIVED MESSAGE: {body!r}")
        message.ack()
        self.count += 1
        self.should_stop = self.count == 2


with Connection(sys.argv[1]) as connection:
    for number in (1, 2):
        connection.Producer().publish({"number": number}, routing_key=queue.name, declare=[queue])
    Worker(connection).run()
