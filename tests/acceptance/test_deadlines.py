"""P6: whatever has become of the broker, every call ends by its deadline, with an error that says so."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty
from typing import Any

import attrs
import pytest
from amqp.exceptions import AMQPError

from kombu_actors import Connection, Consumer, Exchange, Producer, Queue
from kombu_actors.errors import LimitExceeded, OperationalError
from kombu_actors.simple import SimpleQueue
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

DEADLINE = 2.0
LATEST = 2.5
"""Seconds after which a call with a deadline of 2 s must have ended."""
FAULTS = {
    "amqp": ("refused", "blackholed", "stopped", "alarm"),
    "redis": ("refused", "blackholed", "stopped", "full memory"),
}
DOCUMENTED = (OperationalError, TimeoutError, AMQPError, LimitExceeded, Empty)
HEADS = {"amqp": "### What each call raises\n", "redis": "### The same over Redis\n"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


@attrs.define
class Subject:
    """A connection with all that the calls need, made while the broker is well."""

    url: str
    name: str
    held: Any = None
    """What the call under test is made on, if not on the connection."""
    connection: Connection = attrs.field(init=False)
    began: float = 0.0
    """When the call under test began: the last one, of those that only prepare it."""

    def __attrs_post_init__(self) -> None:
        options = {"call_timeout": DEADLINE, "drain_timeout": DEADLINE}
        # Heartbeats would find the silent broker during the test, at a time of their own.
        self.connection = Connection(self.url, connect_timeout=DEADLINE, transport_options=options, heartbeat=60)

    @property
    def queue(self) -> Queue:
        return Queue(self.name, Exchange(self.name), self.name)

    def on_channel(self) -> Queue:
        return self.queue(self.connection.default_channel)

    def publish(self, count: int = 1, **options: Any) -> None:
        producer = Producer(self.connection)
        for number in range(count):
            self.began = time.monotonic()
            producer.publish(number, routing_key=self.name, **options)

    def publish_confirmed(self) -> None:
        self.connection.transport_options["confirm_publish"] = True
        self.publish()

    def release_owing(self) -> None:
        self.publish(10)
        self.connection.release()

    def with_consumer(self) -> None:
        with Consumer(self.connection, [self.queue], callbacks=[print]):
            pass

    def publish_from_pool(self) -> None:
        with self.held.acquire(block=True, timeout=DEADLINE) as producer:
            producer.publish("pooled", routing_key=self.name)


Setup = Callable[[Subject], Any]


def cold(subject: Subject) -> None:
    """Nothing: the first connect falls into the fault."""


def warm(subject: Subject) -> None:
    """Connected, with a queue and a binding, and a channel that has published."""
    subject.on_channel().declare()
    subject.publish()
    with suppress(TimeoutError):
        subject.connection.drain_events(timeout=0.01)


def consuming(subject: Subject) -> Consumer:
    warm(subject)
    consumer = Consumer(subject.connection, [subject.queue], callbacks=[lambda body, message: message.ack()])
    consumer.consume()
    subject.connection.drain_events(timeout=5)
    return consumer


def simple_queue(subject: Subject) -> SimpleQueue:
    warm(subject)
    queue = subject.connection.SimpleQueue(f"{subject.name}-simple")
    queue.put("a message to see that it works")
    queue.get(timeout=DEADLINE).ack()
    return queue


def second_channel(subject: Subject) -> Any:
    warm(subject)
    return subject.connection.channel()


def exhausted_pool(subject: Subject) -> Any:
    warm(subject)
    pool = subject.connection.Pool(1)
    pool.acquire()
    return pool


def producer_pool(subject: Subject) -> Any:
    from kombu_actors.pools import ProducerPool

    warm(subject)
    pool = ProducerPool(subject.connection.Pool(2), limit=2)
    with pool.acquire() as producer:
        producer.publish("a message to see that it works", routing_key=subject.name)
    return pool


CALLS: dict[str, tuple[Setup, Callable[[Subject], object]]] = {
    "`connect()`": (cold, lambda s: s.connection.connect()),
    "first use: `queue(connection).declare()`": (cold, lambda s: s.on_channel().declare()),
    "`channel()`": (warm, lambda s: s.connection.channel()),
    "`queue.declare()`": (warm, lambda s: s.on_channel().declare()),
    "`queue.queue_bind()`": (warm, lambda s: s.on_channel().queue_bind()),
    "`publish()`": (warm, lambda s: s.publish()),
    "`publish()`, window full": (warm, lambda s: s.publish(5000)),
    "`publish(retry=True)`, 1 retry": (
        warm,
        lambda s: s.publish(retry=True, retry_policy={"max_retries": 1, "interval_start": 0.2}),
    ),
    "`publish()`, `confirm_publish`": (warm, Subject.publish_confirmed),
    "`queue.get()`": (warm, lambda s: s.on_channel().get()),
    "`with Consumer()`": (warm, Subject.with_consumer),
    "`consumer.cancel()`": (consuming, lambda s: s.held.cancel()),
    "`drain_events(timeout=2)`": (consuming, lambda s: s.connection.drain_events(timeout=DEADLINE)),
    "`queue.purge()`": (warm, lambda s: s.on_channel().purge()),
    "`SimpleQueue.put()`": (simple_queue, lambda s: s.held.put("one more")),
    "`SimpleQueue.get(timeout=2)`": (simple_queue, lambda s: s.held.get(timeout=DEADLINE)),
    "`SimpleQueue.qsize()`": (simple_queue, lambda s: s.held.qsize()),
    "`pool.acquire(timeout=2)`, all lent": (exhausted_pool, lambda s: s.held.acquire(block=True, timeout=DEADLINE)),
    "producer from a pool, `publish()`": (producer_pool, Subject.publish_from_pool),
    "`channel.close()`": (second_channel, lambda s: s.held.close()),
    "`release()`": (warm, lambda s: s.connection.release()),
    "`release()`, 10 publishes under way": (warm, Subject.release_owing),
    "`collect()`": (warm, lambda s: s.connection.collect()),
}


def attempt(call: Callable[[Subject], object], subject: Subject) -> tuple[str, float]:
    """What a call raised, or "ok", and how long it took."""
    subject.began = time.monotonic()
    try:
        call(subject)
        outcome = "ok"
    except DOCUMENTED as error:
        outcome = type(error).__name__
    return outcome, time.monotonic() - subject.began


def documented(broker: str, fault: str) -> dict[str, str]:
    """The column of a broker's table: what each call raises."""
    text = DOCUMENT.read_text().partition(HEADS[broker])[2]
    rows = [[cell.strip() for cell in row.split(" | ")] for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE)]
    head, *table = rows
    return {row[0]: row[head.index(fault)].split(",")[0] for row in table[: len(CALLS) + 1] if row[0] in CALLS}


@pytest.fixture
def node(own_rabbitmq: Callable[..., RabbitMQNode]) -> Iterator[RabbitMQNode]:
    """A node of our own, well again afterwards."""
    node = own_rabbitmq()
    node.add_vhost("deadlines")
    yield node
    node.delete_vhost("deadlines")


@attrs.frozen
class Ground:
    """A broker that a test may harm."""

    node: RabbitMQNode | RedisNode
    url: Callable[[int], str]
    """Its URL by way of a proxy's port."""
    block: Callable[[], Callable[[], None]]
    """Have it take no publishes; returns what ends that."""


def on_rabbitmq(request: pytest.FixtureRequest) -> Ground:
    node: RabbitMQNode = request.getfixturevalue("node")

    def block() -> Callable[[], None]:
        node.set_memory_alarm()
        return node.clear_memory_alarm

    return Ground(node, lambda port: node.url(vhost="deadlines", port=port), block)


def on_redis(request: pytest.FixtureRequest) -> Ground:
    node: RedisNode = request.getfixturevalue("own_redis")()

    def block() -> Callable[[], None]:
        node.ask("CONFIG", "SET", "maxmemory", 1)
        return lambda: node.ask("CONFIG", "SET", "maxmemory", 0)

    return Ground(node, lambda port: node.url(port=port), block)


GROUNDS = {"amqp": on_rabbitmq, "redis": on_redis}


def inflict(fault: str, ground: Ground, proxy: FaultProxy, subjects: list[Subject]) -> Callable[[], None]:
    """Begin the fault; returns what ends it."""
    if fault == "refused":
        proxy.refuse()
        proxy.reset()
        for subject in subjects:  # each has noticed
            wait_until(lambda c=subject.connection: not c.connected, timeout=5, waiting_for="the loss")  # type: ignore[misc]
        return proxy.heal
    if fault == "blackholed":
        proxy.blackhole()
        return proxy.heal
    if fault == "stopped":
        ground.node.sigstop()
        return ground.node.sigcont
    unblock = ground.block()
    connected = [subject for subject in subjects if subject.connection.connected]
    for subject in connected:  # the broker blocks who publishes
        Producer(subject.connection).publish("dropped", routing_key="nowhere")
    for subject in connected:
        handle = subject.connection.connect()
        wait_until(lambda h=handle: h.blocked, timeout=5, waiting_for="connection.blocked")  # type: ignore[misc]
    return unblock


@pytest.mark.slow
@pytest.mark.parametrize(("broker", "fault"), [(broker, fault) for broker in FAULTS for fault in FAULTS[broker]])
def test_every_call_ends_by_its_deadline_as_documented(
    request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy], broker: str, fault: str
) -> None:
    """Each call with a 2 s deadline, each on its own connection, twice in a row, while the broker's port refuses, its
    network swallows everything, its process is stopped or its memory is full: each ends within 2.5 s, the first
    time with the error that docs/reliability.md has for it. When the fault is over everything closes cleanly."""
    ground = GROUNDS[broker](request)
    proxy = fault_proxy(ground.node.port)
    url = ground.url(proxy.port)
    subjects = [Subject(url, f"{fault}-{number}") for number in range(len(CALLS))]
    with ExitStack() as stack, ThreadPoolExecutor(len(CALLS)) as threads:
        for subject, (setup, _) in zip(subjects, CALLS.values(), strict=True):
            stack.callback(subject.connection.collect)
            subject.held = setup(subject)
        heal = inflict(fault, ground, proxy, subjects)

        def twice(call: Callable[[Subject], object], subject: Subject) -> list[tuple[str, float]]:
            return [attempt(call, subject), attempt(call, subject)]

        try:
            calls = [call for _, call in CALLS.values()]
            seen = dict(zip(CALLS, threads.map(twice, calls, subjects), strict=True))
        finally:
            heal()
        list(threads.map(lambda subject: subject.connection.release(), subjects))
    for name, attempts in seen.items():  # for the document, shown when this fails
        print(f"| {name} | {attempts[0][0]}, {attempts[0][1]:.1f} s")
    late = {name: attempts for name, attempts in seen.items() if max(took for _, took in attempts) > LATEST}
    assert late == {}
    assert {name: attempts[0][0] for name, attempts in seen.items()} == documented(broker, fault)


def test_a_channel_whose_close_ran_out_of_time_delivers_what_it_accepted_and_goes(
    node: RabbitMQNode, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """close() on a channel with a publish under way raises after its deadline while the network is gone; back again,
    the message arrives, and then neither we nor the broker keep the channel."""
    proxy = fault_proxy(node.port)
    subject = Subject(node.url(vhost="deadlines", port=proxy.port), "parting")
    subject.connection.transport_options["call_timeout"] = 0.5
    with subject.connection as connection:
        subject.on_channel().declare()
        channel = connection.channel()
        channel.wait_open(DEADLINE)
        kept = [row["channels"] for row in node.list_connections("deadlines")]
        proxy.blackhole()
        Producer(channel).publish("accepted", routing_key="parting")
        with pytest.raises(OperationalError, match=r"no answer within 0\.5 s: .* is connected"):
            channel.close()
        proxy.heal()
        wait_until(
            lambda: [row["channels"] for row in node.list_connections("deadlines")] == [kept[0] - 1],
            timeout=5,
            waiting_for="the channel to close",
        )
        assert list(connection.connect().actor.channels) == [connection.default_channel.channel_id]
        assert node.list_queues("deadlines")["parting"]["messages"] == 1


def test_the_first_use_passes_a_host_that_never_answers(
    node: RabbitMQNode, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Two hosts, the first one silent: a publish on a fresh connection waits one connect_timeout for it, not more."""
    silent = fault_proxy(node.port)
    silent.hang()
    urls = [node.url(vhost="deadlines", port=silent.port), node.url(vhost="deadlines")]
    started = time.monotonic()
    with Connection(urls, connect_timeout=1, transport_options={"confirm_publish": True}) as connection:
        Producer(connection).publish("arrived", routing_key="second", declare=[Queue("second")])
        assert 1.0 <= time.monotonic() - started < 2.0
    assert node.list_queues("deadlines")["second"]["messages"] == 1
