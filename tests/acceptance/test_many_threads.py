"""Many threads on one connection: every call gets its own answer, and a thread's death harms nobody."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from kombu_actors import Connection, Producer, Queue
from kombu_actors._values.model import QueueSpec
from kombu_actors.errors import DeadlineExceeded, EncodeError
from kombu_actors.message import Message
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

THREADS = 32
SECONDS = 15.0
LAG = 200
"""How far a thread's publishing may be ahead of its getting."""


class Died(Exception):
    """A thread's own mistake, in the middle of its work."""


class Unspeakable:
    """A body that can't be encoded."""

    def __json__(self) -> Any:
        raise Died("while encoding")


class Worker:
    """One thread's share: a queue of its own, declared, published to, got from and acked, in no fixed order."""

    def __init__(self, connection: Connection, producer: Producer, number: int) -> None:
        self.connection = connection
        self.producer = producer
        self.name = f"own-{number}"
        self.dice = random.Random(number)
        self.published = 0
        self.received: list[int] = []
        self.calls: Counter[str] = Counter()

    def declare(self) -> None:
        answer = Queue(self.name)(self.connection.default_channel).queue_declare(passive=bool(self.published))
        assert answer.queue == self.name, "another thread's answer"

    def publish(self) -> None:
        self.producer.publish([self.name, self.published], routing_key=self.name)
        self.published += 1

    def get(self) -> None:
        message = Queue(self.name)(self.connection.default_channel).get()
        if message is not None:
            name, number = message.payload
            assert name == self.name, "another thread's message"
            message.ack()
            self.received.append(number)

    def channel(self) -> None:
        """A channel for a moment, and its own mistake on it now and then: that kills the channel, nobody else's."""
        with self.connection.channel() as channel:
            if self.dice.random() < 0.2:
                with pytest.raises(self.connection.channel_errors):
                    channel.queue_declare(f"no-such-queue-{self.name}", passive=True)

    def die(self) -> None:
        """In the middle of a publish, which encodes its body, or of draining: the callback is anyone's who drains."""
        if self.dice.random() < 0.5:
            self.producer.publish(Unspeakable(), routing_key=self.name)
        with self.connection.channel() as channel:
            Producer(channel, on_return=self.returned).publish(None, routing_key="nobody's", mandatory=True)
            with suppress(TimeoutError):  # it has run in another thread that drained
                self.connection.drain_events(timeout=0.5)

    def returned(self, *args: object) -> None:
        raise Died(self.name)

    def run(self, until: float, mortal: bool) -> None:
        self.declare()
        steps: list[Callable[[], None]] = [self.publish] * 12 + [self.get] * 10 + [self.declare] * 2 + [self.channel]
        while time.monotonic() < until:
            step = self.dice.choice(steps)
            if step == self.publish and self.published - len(self.received) > LAG:
                step = self.get
            self.calls[step.__name__] += 1
            step()
            if mortal and self.dice.random() < 0.01:
                self.die()

    def finish(self) -> None:
        """Get what is left."""
        while len(self.received) < self.published:
            self.get()


@pytest.mark.slow
def test_thirty_two_threads_declare_publish_get_and_ack_on_one_connection(
    rabbitmq: RabbitMQNode, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """15 s of mixed calls on one connection and one producer, while some threads die of their own errors and are
    replaced: each thread gets its own messages, once each and in order; one session throughout; no channel is left."""
    with Connection(rabbitmq.url(vhost=vhost)) as connection:
        producer = Producer(connection)
        workers = [Worker(connection, producer, number) for number in range(THREADS)]
        until = time.monotonic() + SECONDS
        deaths: list[str] = []

        def work(worker: Worker) -> None:
            while time.monotonic() < until:
                try:
                    worker.run(until, mortal=int(worker.name.removeprefix("own-")) % 2 == 0)
                except (Died, EncodeError) as death:
                    deaths.append(type(death).__name__)
            worker.finish()

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(work, workers))
        for worker in workers:
            assert worker.received == list(range(worker.published))
        assert connection.connect().sessions == 1
        # A refused declaration cost topology its channel; the next declaration opens it again.
        Queue("last")(connection).declare()
        assert [c["channels"] for c in rabbitmq.list_connections(vhost)] == [2]  # topology's, and the default one
        assert {queue["messages"] for queue in rabbitmq.list_queues(vhost).values()} == {0}
    assert set(deaths) == {"Died", "EncodeError"}
    calls = sum((worker.calls for worker in workers), Counter[str]())
    with capsys.disabled():
        print(f"\n  {dict(calls)}, {len(deaths)} deaths")


def test_threads_given_up_in_the_middle_of_a_call_hold_nothing_up(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """8 daemon threads hang in calls of every kind when the network goes; nobody joins them. Others' calls end by their
    deadlines meanwhile, and the connection works when the network is back, for new threads and for the old."""
    proxy = fault_proxy(rabbitmq.port)
    options = {"call_timeout": 20, "drain_timeout": 5}
    url = rabbitmq.url(vhost=vhost, port=proxy.port)
    with Connection(url, heartbeat=60, transport_options=options) as connection:
        queue = Queue("kept")(connection.default_channel)
        queue.declare()
        producer = Producer(connection)
        ended: list[str] = []
        entered = threading.Barrier(9)

        def hang(call: Callable[[], object]) -> None:
            entered.wait()
            call()
            ended.append(threading.current_thread().name)

        proxy.blackhole()
        calls: list[Callable[[], object]] = [
            queue.declare,
            queue.get,
            lambda: queue.queue_declare(passive=True),
            lambda: connection.channel().basic_get("kept"),
        ]
        abandoned = [threading.Thread(target=hang, args=(call,), daemon=True) for call in calls * 2]
        for thread in abandoned:
            thread.start()
        entered.wait()
        started = time.monotonic()
        declare = connection.connect().actor.topology_calls.declare_queue
        with pytest.raises(DeadlineExceeded):
            connection.call(declare, QueueSpec(name="other"), timeout=0.5)
        assert time.monotonic() - started < 1.0
        producer.publish("accepted", routing_key="kept")
        assert ended == []
        proxy.heal()
        for thread in abandoned:
            thread.join(10)
        assert len(ended) == len(abandoned)
        producer.publish("afterwards", routing_key="kept")
        bodies: list[Any] = []

        def collect(body: Any, message: Message) -> None:
            bodies.append(body)
            message.ack()

        with connection.Consumer([queue], callbacks=[collect]):
            while bodies[-1:] != ["afterwards"]:
                connection.drain_events(timeout=5)
        assert bodies in (["accepted", "afterwards"], ["afterwards"])  # an abandoned get may have had the first
        assert connection.connect().sessions == 1
