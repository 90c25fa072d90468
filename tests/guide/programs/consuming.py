"""Consumers: of one queue by a connection or by a channel, then of two queues with one callback.

Prints:
    by the connection: first
    by a channel: second
    RECEIVED MESSAGE: {'queue': 1}
    RECEIVED MESSAGE: {'queue': 2}
    timed out
"""

import socket
import sys

from kombu import Connection, Consumer, Producer, Queue

queue = Queue("guide-queue", routing_key="guide-queue")
queue1 = Queue("guide-queue1", routing_key="guide-queue1")
queue2 = Queue("guide-queue2", routing_key="guide-queue2")


def callback(body, message):
    print("by the connection:", body)
    message.ack()


def on_message(message):
    print("by a channel:", message.decode())
    message.ack()


def received(body, message):
    print(f"RECEIVED MESSAGE: {body!r}")
    message.ack()


with Connection(sys.argv[1]) as connection:
    producer = Producer(connection)
    producer.publish("first", routing_key="guide-queue", declare=[queue])
    consumer = connection.Consumer(queue)
    consumer.register_callback(callback)
    with consumer:
        connection.drain_events(timeout=10)

    with connection.channel() as channel, Consumer(channel, queue, on_message=on_message):
        producer.publish("second", routing_key="guide-queue")
        connection.drain_events(timeout=10)

    with connection.channel() as channel:
        consumer = Consumer(channel, [queue1, queue2], accept=["json"])
        consumer.register_callback(received)
        with consumer:
            for number in (1, 2):
                producer.publish({"queue": number}, routing_key=f"guide-queue{number}")
                connection.drain_events(timeout=10)
            try:
                connection.drain_events(timeout=0.1)
            except socket.timeout:
                print("timed out")
