"""Several brokers in one URL: the first that answers is used; what is ensured is tried again, consumers too.

Prints:
    connected, not to the broken one
    strategies: ['round-robin', 'shuffle']
    published
    declared
    {'hello': 'world'}
    {'hello': 'retried'}
    {'hello': 'mixin'}
    gave up: OperationalError
"""

import socket
import sys

from kombu import Connection, Exchange, Producer, Queue, connection
from kombu.exceptions import OperationalError
from kombu.mixins import ConsumerMixin

BROKEN = "amqp://guest:guest@127.0.0.1:1//"
URL = sys.argv[1]
exchange = Exchange("guide-failover")
queue = Queue("guide-failover", exchange, routing_key="queue")


def errback(exc, interval):
    print(f"Error: {exc!r}, retry in {interval} seconds", file=sys.stderr)


with Connection(f"{BROKEN};{URL}" if URL.startswith("amqp") else URL, failover_strategy="round-robin") as conn:
    conn.ensure_connection(errback=None, max_retries=3, timeout=20)
    print("connected, not to the broken one" if ":1//" not in conn.as_uri() else conn.as_uri())
    print("strategies:", sorted(connection.failover_strategies))

    producer = Producer(conn)
    queue(conn).declare()
    publish = conn.ensure(producer, producer.publish, errback=errback, max_retries=3)
    publish({"hello": "world"}, exchange=exchange, routing_key="queue")
    print("published")

    declare = conn.autoretry(queue.declare)
    declare()
    print("declared")

    with conn.channel() as channel:
        Producer(channel).publish({"hello": "retried"}, exchange=exchange, routing_key="queue", retry=True)

    heard = []

    def callback(body, message):
        print(body)
        message.ack()
        heard.append(body)

    def consume():
        while len(heard) < 2:
            try:
                conn.drain_events(timeout=1)
            except socket.timeout:
                pass

    with conn.Consumer(queue, callbacks=[callback]):
        conn.ensure(conn, consume, errback=errback, max_retries=3)()


class Worker(ConsumerMixin):
    def __init__(self, connection):
        self.connection = connection

    def get_consumers(self, Consumer, channel):
        return [Consumer([queue], callbacks=[self.on_message], accept=["json"])]

    def on_message(self, body, message):
        print(body)
        message.ack()
        self.should_stop = True

    def consume(self, *args, **kwargs):
        return self.connection.ensure(self.connection, super().consume)(*args, **kwargs)


with Connection(URL) as conn:
    conn.Producer().publish({"hello": "mixin"}, exchange=exchange, routing_key="queue")
    Worker(conn).run()

with Connection(BROKEN) as conn:
    try:
        conn.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    except OperationalError as error:
        print("gave up:", type(error).__name__)
