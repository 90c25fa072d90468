"""A worker that consumes on two channels; the second is its own, made beside the first and closed at the end.

Brokers: amqp
Prints:
    plain: {'number': 3}
    special: {'number': 4}
    second channel closed
"""

import sys

from kombu import Connection, Consumer, Queue
from kombu.mixins import ConsumerMixin

queue = Queue("guide-plain", routing_key="guide-plain")
special = Queue("guide-special", routing_key="guide-special")


class TwoChannels(ConsumerMixin):
    channel2 = None

    def __init__(self, connection):
        self.connection = connection
        self.heard = {}

    def get_consumers(self, _, default_channel):
        self.channel2 = default_channel.connection.channel()
        return [
            Consumer(default_channel, [queue], callbacks=[self.on_message], accept=["json"]),
            Consumer(self.channel2, [special], callbacks=[self.on_special_message], accept=["json"]),
        ]

    def on_message(self, body, message):
        self.note("plain", body, message)

    def on_special_message(self, body, message):
        self.note("special", body, message)

    def note(self, kind, body, message):
        self.heard[kind] = body
        message.ack()
        self.should_stop = len(self.heard) == 2

    def on_consume_end(self, connection, default_channel):
        if self.channel2:
            self.channel2.close()
            self.closed = True


with Connection(sys.argv[1]) as connection:
    for number, target in ((3, queue), (4, special)):
        connection.Producer().publish({"number": number}, routing_key=target.name, declare=[target])
    worker = TwoChannels(connection)
    worker.run()
    for kind, body in sorted(worker.heard.items()):
        print(f"{kind}: {body}")
    print("second channel closed" if worker.closed else "second channel open")
