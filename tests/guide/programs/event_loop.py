"""kombu's event loop drives a connection: it hears of messages, and of a timer meanwhile.

Brokers: amqp, redis
Prints:
    message sent
    received: b'"hello world"'
"""

import sys

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.asynchronous import Hub, set_event_loop

hub = Hub()
set_event_loop(hub)
exchange = Exchange("guide-loop")
queue = Queue("guide-loop", exchange, "guide-loop")


def send_message(conn):
    Producer(conn).publish("hello world", exchange=exchange, routing_key="guide-loop", serializer="json")
    print("message sent")


def on_message(message):
    body = message.body
    print(f"received: {body.encode() if isinstance(body, str) else bytes(body)!r}")
    message.ack()
    hub.stop()  # after one message


with Connection(sys.argv[1]) as conn:
    conn.register_with_event_loop(hub)
    with Consumer(conn, [queue], on_message=on_message):
        hub.call_later(0.1, send_message, conn)
        hub.run_forever()
set_event_loop(None)
hub.close()
