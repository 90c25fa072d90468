"""kombu and kombu_actors on one Redis: they share queues and exchanges, and every message is handled once.

Stock kombu runs as it is installed; nothing of it is replaced.  See ``test_redis_celery`` for Celery.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import chain, cycle, product
from typing import Any

import pytest

from tests.support.brokers import RedisNode
from tests.support.processes import wait_until

from .redis_crews import MESSAGES, PATIENCE, PEERS, Crew, Ground, ack, ground_of, producers

STEPS = (0, 3, 6, 9)


def by_default_exchange(package: Any) -> list[Any]:
    return [package.Queue("shared")]


def by_direct(package: Any) -> list[Any]:
    return [package.Queue("shared", package.Exchange("ways", "direct"), "shared")]


def by_topic(package: Any) -> list[Any]:
    exchange = package.Exchange("words", "topic")
    return [package.Queue("shared", exchange, "shared.#"), package.Queue("never", exchange, "shared.*.*.never")]


WAYS: dict[str, tuple[Callable[[Any], list[Any]], str]] = {
    "default": (by_default_exchange, "shared"),
    "direct": (by_direct, "shared"),
    "topic": (by_topic, "shared.a.b"),
}


@pytest.fixture
def prefixed(redis_server: RedisNode) -> Iterator[Ground]:
    """A ground where all names begin with a prefix."""
    with ground_of(redis_server, global_keyprefix="{app}:") as ground:
        yield ground


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("senders", [PEERS[:1], PEERS[1:], PEERS], ids="+".join)
def test_a_mixed_fleet_handles_every_message_once(ground: Ground, senders: tuple[str, ...], way: str) -> None:
    """1,000 from each producer, to a queue that two consumers of each library share."""
    queues, key = WAYS[way]
    everyone = threading.Barrier(4)

    def together(message: Any) -> bool:
        if threading.current_thread() not in present:
            present.add(threading.current_thread())
            everyone.wait(PATIENCE)  # so that each gets its first before one gets its second
        return ack(message)

    present: set[threading.Thread] = set()
    with Crew(ground) as crew:
        for library in PEERS * 2:
            crew.hire(library, queues, decide=together)
        with producers(ground, *senders) as sending:
            exchanges = [queues(import_module(library))[0].exchange for library in senders]
            for number, (sender, producer) in product(range(MESSAGES), enumerate(sending)):
                exchange = exchanges[sender]
                producer.publish([sender, number], exchange=exchange, routing_key=key, declare=[exchange])
        crew.wait(MESSAGES * len(senders))
    assert Counter(map(tuple, crew.everything())) == Counter(product(range(len(senders)), range(MESSAGES)))
    assert len(crew.handled) == 4
    assert ground.left() == {}


def test_a_key_prefix_separates_fleets(prefixed: Ground) -> None:
    """With ``global_keyprefix`` both fleets meet under it, for queues and for broadcasts, and touch nothing else."""

    def queues(package: Any) -> list[Any]:
        return [*by_topic(package), package.Queue("heard", package.Exchange("news", "fanout"))]

    with Crew(prefixed) as crew, producers(prefixed, *PEERS) as sending:
        for library in PEERS:
            crew.hire(library, queues)
        prefixed.wait_listeners(2)
        for number, producer in enumerate(sending):
            words, _, news = (queue.exchange for queue in queues(import_module(PEERS[number])))
            producer.publish(number, exchange=words, routing_key="shared.x", declare=[words])
            producer.publish(number, exchange=news, declare=[news])
        crew.wait(2 + 4)
        assert all(key.startswith(b"{app}:") for key in prefixed.client.scan_iter())
    assert sorted(crew.everything()) == [0] * 3 + [1] * 3
    assert prefixed.left() == {}


def test_priorities_mean_the_same_to_both(ground: Ground) -> None:
    """Whoever sent and whoever takes: kombu's steps in its order, and first in first out within each."""

    def priority(number: int) -> int:
        return number * 7 % 10

    with producers(ground, *PEERS) as sending:
        for number, producer in zip(range(MESSAGES), cycle(sending), strict=False):
            producer.publish(number, routing_key="ranked", priority=priority(number))
        takers = cycle(package.SimpleQueue("ranked") for package in (producer.connection for producer in sending))
        found = []
        for _, taker in zip(range(MESSAGES), takers, strict=False):
            message = taker.get(block=False)
            found.append(message.payload)
            assert message.properties["priority"] == priority(message.payload)
            message.ack()
    step = {number: max(step for step in STEPS if step <= priority(number)) for number in range(MESSAGES)}
    assert found == sorted(range(MESSAGES), key=lambda number: (step[number], number))
    assert ground.left() == {}


@pytest.mark.parametrize("strategy", ["round_robin", "sorted", "priority"])
@pytest.mark.parametrize("library", PEERS)
def test_the_most_urgent_of_all_queues_is_handled_first(ground: Ground, library: str, strategy: str) -> None:
    """A consumer of several queues gets nothing from one while something more urgent waits in another.

    Ours gets something as soon as it has subscribed to the first queue, as from RabbitMQ: hence the message before.
    """
    queues = ("lazy", "mixed", "urgent")
    package, handled = import_module(library), list[int]()
    with (
        producers(ground, *PEERS) as sending,
        ground.connect(library, queue_order_strategy=strategy) as connection,
    ):

        def handle(body: int, message: Any) -> None:
            handled.append(body)
            if body < 0:
                for producer, (number, queue) in zip(cycle(sending), product(range(6), queues), strict=False):
                    priority = {"lazy": 9, "mixed": 3 * (number % 4), "urgent": 0}[queue]
                    producer.publish(priority, routing_key=queue, priority=priority)
            message.ack()

        sending[0].publish(-1, routing_key="lazy")
        consumed = [package.Queue(queue) for queue in queues]
        with package.Consumer(connection, consumed, callbacks=[handle], prefetch_count=1):
            while len(handled) < 1 + 18:
                connection.drain_events(timeout=PATIENCE)
    assert handled == sorted(handled)
    assert ground.left() == {}


@pytest.mark.parametrize(("sender", "taker"), list(product(PEERS, PEERS)), ids=str)
def test_queues_that_expire_live_as_long_whoever_uses_them(ground: Ground, sender: str, taker: str) -> None:
    """Publishing and getting renew the lives of all of a queue's lists, and nothing is left when nobody is there."""
    lists = ["fleeting", *(f"fleeting\x06\x16{step}" for step in STEPS[1:])]

    def lives() -> list[float]:
        left = [ground.client.pttl(name) / 1000 for name in lists]
        for name in lists:
            ground.client.pexpire(name, 10_000)
        return left

    def queue(library: str, name: str, expires: float) -> Any:
        return import_module(library).Queue(name, expires=expires)

    with producers(ground, sender) as (producer,), ground.connect(taker) as connection:
        for step in STEPS:
            for body in range(2):
                producer.publish(
                    body,
                    routing_key="fleeting",
                    priority=step,
                    declare=[queue(sender, "fleeting", 30), queue(sender, "gone", 0.2)],
                )
                producer.publish(body, routing_key="gone", priority=step)
        assert all(25 < life <= 30 for life in lives())
        shared = queue(taker, "fleeting", 30)(connection.default_channel)
        shared.declare()
        shared.get(no_ack=True)
        assert all(25 < life <= 30 for life in lives())
    wait_until(
        lambda: not list(ground.client.scan_iter("gone*")), timeout=PATIENCE, waiting_for="the forgotten queue to end"
    )


BINDINGS = {
    "direct": {"a": ["x"], "b": ["x", "y"], "c": ["z"]},
    "topic": {"a": ["one.*", "#.end"], "b": ["#"], "c": ["*.two"], "d": ["one.#"]},
}
# Without keys on which kombu's own patterns disagree with AMQP ("*" is more than a word there, ".#" needs the dot).
EXPECTED = {
    "direct": {"x": "ab", "y": "b", "z": "c"},
    "topic": {"one.two": "abcd", "two.end": "ab", "x.two": "bc", "x.y.end": "ab", "one.end": "abd"},
}


@pytest.mark.parametrize("kind", BINDINGS)
@pytest.mark.parametrize(("binder", "sender"), [PEERS, PEERS[::-1]], ids=lambda name: name)
def test_what_one_binds_the_other_reaches(ground: Ground, binder: str, sender: str, kind: str) -> None:
    """Bindings made by one library route the other's messages: each queue that matches gets one.

    Ours knows nothing but the exchange's name then; stock kombu must declare what it publishes to.
    """
    package = import_module(binder)
    name = f"{kind}-of-{binder}"
    with ground.connect(binder) as connection, ground.connect(sender) as sending:
        exchange = package.Exchange(name, kind)
        for queue, key in chain.from_iterable(product([queue], keys) for queue, keys in BINDINGS[kind].items()):
            package.Queue(queue, exchange, key)(connection.default_channel).declare()
        producer = sending.Producer()
        declare = [import_module("kombu").Exchange(name, kind)] if sender == "kombu" else []
        for key in EXPECTED[kind]:
            producer.publish(key, exchange=name, routing_key=key, declare=declare)
        found: dict[str, list[str]] = {key: [] for key in EXPECTED[kind]}
        for queue in BINDINGS[kind]:
            taken = package.Queue(queue)(connection.default_channel)
            while (message := taken.get()) is not None:
                found[message.payload].append(queue)
                message.ack()
    assert {key: "".join(queues) for key, queues in found.items()} == EXPECTED[kind]
    assert ground.left() == {}


@pytest.mark.parametrize(
    ("sender", "hearers", "declared"),
    [("kombu", PEERS, True), ("kombu_actors", PEERS, True), ("kombu_actors", ("kombu",), False)],
    ids=["from kombu", "from kombu_actors", "undeclared"],
)
@pytest.mark.parametrize("key", ["", "news.one"])
def test_a_broadcast_reaches_the_subscribers_of_both(
    ground: Ground, sender: str, hearers: tuple[str, ...], declared: bool, key: str
) -> None:
    """Each of 1,000, once, in order; also when nobody but stock subscribers knows that it is a broadcast."""

    def queues(package: Any, name: str, pattern: str) -> list[Any]:
        return [package.Queue(name, package.Exchange("radio", "fanout"), pattern)]

    patterns = [key, *(["news.#"] if key else [])]
    audience = [(library, pattern, f"{library} {pattern}") for library, pattern in product(hearers, patterns)]
    with Crew(ground) as crew, producers(ground, sender) as (producer,):
        for library, pattern, name in audience:
            crew.hire(library, partial(queues, name=name, pattern=pattern), name=name)
        ground.wait_listeners(len(audience))
        declare = [import_module(sender).Exchange("radio", "fanout")] if declared else []
        for number in range(MESSAGES):
            producer.publish(number, exchange="radio", routing_key=key, declare=declare)
        crew.wait(MESSAGES * len(audience))
    assert len(crew.handled) == len(audience)
    for name, heard in crew.handled.items():
        assert heard == list(range(MESSAGES)), name
    assert ground.left() == {}


def test_a_durable_broadcast_queue_hears_stock_publishers_once(ground: Ground) -> None:
    """Both of its consumers hear the broadcast, and one message is put into the queue.

    What we publish ourselves is there even if nobody listened.
    """

    def queues(package: Any) -> list[Any]:
        return [package.Queue("kept", package.Exchange("radio", "fanout"))]

    with Crew(ground) as crew, producers(ground, "kombu") as (producer,):
        for _ in range(2):
            crew.hire("kombu_actors", queues, durable_fanout=True)
        ground.wait_listeners(2)
        for number in range(MESSAGES):
            producer.publish(number, exchange="radio", declare=[import_module("kombu").Exchange("radio", "fanout")])
        crew.wait(MESSAGES)
    assert sorted(crew.everything()) == list(range(MESSAGES))
    assert ground.left() == {}
    with producers(ground, "kombu_actors") as (producer,):
        for number in range(10):
            producer.publish(number, exchange="radio")
    with Crew(ground) as crew:
        crew.hire("kombu_actors", queues, durable_fanout=True)
        crew.wait(10)
    assert crew.everything() == list(range(10))
    assert ground.left() == {}


def test_what_one_gives_back_the_other_takes(ground: Ground) -> None:
    """Requeued by either side it comes again, marked as redelivered; acked or rejected it is gone."""
    seen: Counter[tuple[str, bool]] = Counter()

    def fussy(library: str) -> Callable[[Any], bool]:
        def decide(message: Any) -> bool:
            number = message.payload
            again = bool(message.delivery_info.get("redelivered"))
            seen[library, again] += 1
            if number % 3 == 0 and not again:
                message.requeue()
                return False
            message.reject() if number % 5 == 0 else message.ack()
            return True

        return decide

    with Crew(ground) as crew, producers(ground, *PEERS) as sending:
        for library in PEERS:
            crew.hire(library, by_direct, decide=fussy(library))
        for number, producer in zip(range(MESSAGES), cycle(sending), strict=False):
            producer.publish(number, exchange="ways", routing_key="shared")
        crew.wait(MESSAGES)
    assert sorted(crew.everything()) == list(range(MESSAGES))
    assert sum(seen.values()) == MESSAGES + len(range(0, MESSAGES, 3))
    assert all(seen[library, again] for library, again in product(PEERS, (False, True))), seen
    assert ground.left() == {}


@pytest.mark.parametrize(("leaver", "heir"), [PEERS, PEERS[::-1]], ids=lambda name: name)
def test_what_a_leaving_consumer_had_open_goes_to_the_other(ground: Ground, leaver: str, heir: str) -> None:
    """A connection released with unsettled messages gives them back, in order, to whoever comes."""
    with producers(ground, heir) as (producer,):
        for number in range(10):
            producer.publish(number, routing_key="shared")
    with Crew(ground) as crew:
        crew.hire(leaver, by_default_exchange, decide=lambda message: True)
        crew.wait(10)
    assert ground.left() == {"shared": 10}
    with Crew(ground) as crew:
        crew.hire(heir, by_default_exchange)
        crew.wait(10)
    assert sorted(crew.everything()) == list(range(10))
    assert ground.left() == {}
