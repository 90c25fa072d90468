"""A program under gevent or eventlet: ``python -m tests.bridge.greenlets LIBRARY WHEN URL`` prints what it saw as JSON.

WHEN is ``before`` or ``after`` the import of kombu_actors, or ``late``: after a connection was used and released.
"""

# ruff: noqa: E402  # what is imported when is the point
from __future__ import annotations

import ctypes.util  # noqa: F401  # as programs do; it keeps the subprocess that it was imported with
import importlib
import json
import sys
from typing import Any

library, when, url = sys.argv[1:4]


def patch() -> None:
    """As the library's documentation says."""
    if library == "gevent":
        importlib.import_module("gevent.monkey").patch_all()
    else:
        importlib.import_module("eventlet").monkey_patch()


if when == "before":
    patch()

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.message import Message
from kombu_actors.mixins import ConsumerMixin
from kombu_actors.pools import producers

if when == "late":
    with Connection(url) as early:
        early.connect()
if when != "before":
    patch()

import threading
import time

GREENLETS = 20
seen: dict[str, Any] = {}


def together(*functions: Any) -> list[Any]:
    """Run functions in greenlets (patched threads are such); returns what each returned or raised."""
    results: list[Any] = [None] * len(functions)

    def run(index: int) -> None:
        try:
            results[index] = functions[index]()
        except Exception as error:
            results[index] = repr(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


class Ticking:
    """Counts how often another greenlet gets its turn while the block runs."""

    def __enter__(self) -> Ticking:
        self.ticks, self._over = 0, False
        threading.Thread(target=self._tick, daemon=True).start()
        return self

    def _tick(self) -> None:
        while not self._over:
            self.ticks += 1
            time.sleep(0.01)

    def __exit__(self, *exc_info: object) -> None:
        self._over = True


def everyday(connection: Connection) -> None:
    """Publish, consume, count."""
    queue = Queue("green")
    producer = Producer(connection)
    for number in range(GREENLETS):
        producer.publish(number, routing_key="green", declare=[queue])
    got: list[int] = []

    def receive(body: int, message: Message) -> None:
        got.append(body)
        message.ack()

    with Consumer(connection.channel(), [queue], callbacks=[receive]):
        while len(got) < GREENLETS:
            connection.drain_events(timeout=10)
        with Ticking() as ticking:
            try:
                connection.drain_events(timeout=0.5)
            except TimeoutError:
                seen["ticks while draining"] = ticking.ticks
    seen["got"] = got


class Worker(ConsumerMixin):
    """Takes as many messages as there are greenlets that send one, in a greenlet of its own."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.got: list[int] = []

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
        return [Consumer([Queue("green-mixin")], callbacks=[self.receive])]

    def receive(self, body: int, message: Message) -> None:
        self.got.append(body)
        message.ack()
        self.should_stop = len(self.got) == GREENLETS


def mixin(connection: Connection) -> list[int]:
    """A worker in its greenlet, served by others."""
    with Connection(url) as own:
        worker = Worker(own)

        def send(number: int) -> None:
            connection.Producer().publish(number, routing_key="green-mixin", declare=[Queue("green-mixin")])

        together(worker.run, *[lambda number=number: send(number) for number in range(GREENLETS)])
        return worker.got


with Connection(url) as connection:
    with Ticking() as ticking:
        connection.connect()
    everyday(connection)
    seen["mixin"] = sorted(mixin(connection))

    # One connection, one queue object each, in many greenlets at once.
    def put_and_get() -> Any:
        number = len(started)
        started.append(number)
        with connection.SimpleQueue(f"green-{number}") as simple:
            simple.put(number)
            message = simple.get(timeout=10)
            message.ack()
            return message.payload == number

    started: list[int] = []
    seen["simple"] = together(*[put_and_get] * GREENLETS)

    # More greenlets than the pool has producers.
    def publish() -> bool:
        with producers[connection].acquire(block=True, timeout=20) as producer:
            producer.publish("x", routing_key="green", declare=[Queue("green")], retry=True)
        return True

    seen["pools"] = together(*[publish] * GREENLETS)

# The same connection is connected by many at once.
shared = Connection(url)
seen["connecting"] = together(*[lambda: shared.default_channel is not None] * GREENLETS)
seen["channels"] = len(shared._runs.running().channels)
shared.release()

# A greenlet that waits for long is ended by another one.
if library == "gevent":
    gevent = importlib.import_module("gevent")
    with Connection(url) as waited:
        waited.Consumer([Queue("green-empty")]).consume()
        waiting = gevent.spawn(waited.drain_events)
        gevent.sleep(0.1)
        waiting.kill(timeout=5)
        seen["killed"] = waiting.dead
        waited.default_channel.queue_declare("green-empty", passive=True)
producers[connection].force_close_all()
print(json.dumps(seen))
