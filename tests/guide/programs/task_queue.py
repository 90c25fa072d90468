"""A task queue of functions by pickle, with three priorities as three queues, a client with pools and a worker.

Prints:
    Hello Kombu
    Hello low
    Hello world
    failed: TypeError
    Got task: hello_task('Kombu')
"""

import sys

from kombu import Connection, Exchange, Queue
from kombu.mixins import ConsumerMixin
from kombu.pools import producers, reset
from kombu.utils.functional import reprcall

task_exchange = Exchange("guide-task-queue", type="direct")
task_queues = [Queue(f"guide-{key}", task_exchange, routing_key=key) for key in ("hipri", "midpri", "lopri")]
routing_keys = {"high": "hipri", "mid": "midpri", "low": "lopri"}


def hello_task(who="world"):
    said.append(f"Hello {who}")


said = []


def send_as_task(connection, fun, args=(), kwargs=None, priority="mid"):
    with producers[connection].acquire(block=True) as producer:
        producer.publish(
            {"fun": fun, "args": args, "kwargs": kwargs or {}},
            serializer="pickle",
            compression="bzip2",
            exchange=task_exchange,
            declare=[task_exchange, *task_queues],
            routing_key=routing_keys[priority],
        )


class Worker(ConsumerMixin):
    def __init__(self, connection):
        self.connection = connection
        self.log = []

    def get_consumers(self, Consumer, channel):
        return [Consumer(queues=task_queues, accept=["pickle", "json"], callbacks=[self.process_task])]

    def process_task(self, body, message):
        fun, args, kwargs = body["fun"], body["args"], body["kwargs"]
        self.log.append(f"Got task: {reprcall(fun.__name__, args, kwargs)}")
        try:
            fun(*args, **kwargs)
        except Exception as exc:
            said.append(f"failed: {type(exc).__name__}")
        message.ack()
        self.should_stop = len(said) == 4


connection = Connection(sys.argv[1])
send_as_task(connection, fun=hello_task, args=("Kombu",), priority="high")
send_as_task(connection, fun=hello_task)
send_as_task(connection, fun=hello_task, args=("low",), priority="low")
send_as_task(connection, fun=hello_task, args=(1, 2), priority="low")

with Connection(sys.argv[1]) as conn:
    worker = Worker(conn)
    worker.run()
print(*sorted(said), sep="\n")
print(next(line for line in worker.log if "Kombu" in line))
reset()
