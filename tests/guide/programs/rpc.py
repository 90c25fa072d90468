"""Requests and replies: a server from ``ConsumerProducerMixin``, a client with an exclusive queue for replies.

Prints:
    [x] Requesting fib(10)
    [.] fib(10)
    [.] Got 55
    [x] Requesting fib(15)
    [.] fib(15)
    [.] Got 610
"""

import sys
import threading

from kombu import Connection, Consumer, Producer, Queue, uuid
from kombu.mixins import ConsumerProducerMixin

rpc_queue = Queue("guide-rpc")


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


class Worker(ConsumerProducerMixin):
    def __init__(self, connection):
        self.connection = connection
        self.ready = threading.Event()

    def get_consumers(self, Consumer, channel):
        return [Consumer(queues=[rpc_queue], on_message=self.on_request, accept={"application/json"}, prefetch_count=1)]

    def on_consume_ready(self, connection, channel, consumers, **kwargs):
        self.ready.set()

    def on_request(self, message):
        n = message.payload["n"]
        print(f"[.] fib({n})")
        self.producer.publish(
            {"result": fib(n)},
            exchange="",
            routing_key=message.properties["reply_to"],
            correlation_id=message.properties["correlation_id"],
            serializer="json",
            retry=True,
        )
        message.ack()


class Client:
    def __init__(self, connection):
        self.connection = connection
        self.callback_queue = Queue(uuid(), exclusive=True, auto_delete=True)
        self.correlation_id = self.response = None

    def on_response(self, message):
        if message.properties["correlation_id"] == self.correlation_id:
            self.response = message.payload["result"]

    def call(self, n):
        self.response = None
        self.correlation_id = uuid()
        with Producer(self.connection) as producer:
            producer.publish(
                {"n": n},
                exchange="",
                routing_key=rpc_queue.name,
                declare=[self.callback_queue],
                reply_to=self.callback_queue.name,
                correlation_id=self.correlation_id,
            )
        with Consumer(self.connection, on_message=self.on_response, queues=[self.callback_queue], no_ack=True):
            while self.response is None:
                self.connection.drain_events(timeout=10)
        return self.response


with Connection(sys.argv[1]) as served, Connection(sys.argv[1]) as connection:
    worker = Worker(served)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert worker.ready.wait(10)
        for n in (10, 15):
            print(f"[x] Requesting fib({n})")
            print(f"[.] Got {Client(connection).call(n)}")  # an auto-delete queue goes with its consumer
    finally:
        worker.should_stop = True
        thread.join()
