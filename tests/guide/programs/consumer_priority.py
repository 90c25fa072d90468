"""RabbitMQ gives messages to the consumer with the higher ``x-priority`` as long as it takes them.

Brokers: amqp
Prints:
    important: 1
    important: 2
    important: 3
"""

import sys

from kombu import Connection, Exchange, Queue

exchange = Exchange("guide-priority", type="direct")


def queue(priority):
    return Queue("guide-priority", exchange, consumer_arguments={"x-priority": priority})


def hear(who):
    def callback(body, message):
        print(f"{who}: {body}")
        message.ack()

    return callback


with Connection(sys.argv[1]) as connection, connection.channel() as one, connection.channel() as other:
    with (
        connection.Consumer(queue(1), channel=one, callbacks=[hear("less important")]),
        connection.Consumer(queue(10), channel=other, callbacks=[hear("important")]),
    ):
        for number in (1, 2, 3):
            connection.Producer().publish(number, exchange=exchange, routing_key="")
            connection.drain_events(timeout=10)
