"""Common helpers: loops, replies, retries, ids; with kombu as the witness."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any
from uuid import UUID

import pytest
from amqp.exceptions import ChannelError

from kombu_actors import Connection, Exchange
from kombu_actors.common import Broadcast, insured
from kombu_actors.errors import OperationalError
from kombu_actors.utils.limits import TokenBucket
from kombu_actors.utils.uuid import uuid

from .outages import OUTPOSTS, Outpost

PATIENCE = 10.0


@pytest.fixture(params=["kombu_actors", "kombu"])
def library(request: pytest.FixtureRequest) -> Any:
    """The library whose behaviour is looked at: ours, and the one it promises to behave like."""
    return import_module(request.param)


@pytest.fixture
def common(library: Any) -> Any:
    """Its module of common helpers."""
    return import_module(f"{library.__name__}.common")


@pytest.fixture(params=["memory", "amqp"])
def connection(library: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection of that library to a broker of its own."""
    url = f"memory://{uuid()}" if request.param == "memory" else request.getfixturevalue("amqp_url")
    with library.Connection(url) as made:
        yield made


@pytest.fixture(params=sorted(OUTPOSTS))
def outpost(request: pytest.FixtureRequest) -> Iterator[Outpost]:
    """A broker of each kind."""
    yield from OUTPOSTS[request.param](request)


def test_the_documented_names_are_where_kombu_has_them(library: Any, common: Any) -> None:
    """In ``common``, in ``pools``, and in the package itself."""
    kombu = import_module("kombu")
    assert set(import_module("kombu.common").__all__) <= set(dir(common))
    assert set(import_module("kombu.pools").__all__) <= set(dir(import_module(f"{library.__name__}.pools")))
    assert set(kombu.__all__) <= set(library.__all__)
    assert all(getattr(library, name) is not None for name in kombu.__all__)


def test_every_listener_gets_a_broadcast(library: Any, common: Any, connection: Any) -> None:
    """Each has a queue of its own on a fanout exchange."""
    name = f"news-{uuid()}"
    got: list[Any] = []
    listeners = [common.Broadcast(name) for _ in range(3)]
    with connection.Consumer(listeners, no_ack=True, callbacks=[lambda body, message: got.append(body)]):
        connection.Producer().publish("m", exchange=name)
        for _ in listeners:
            connection.drain_events(timeout=PATIENCE)
    assert got == ["m"] * 3


def test_broadcast_queues_are_named_as_in_kombu(library: Any, common: Any) -> None:
    """At random, or as told; with ``unique`` only beginning as told."""
    plain, named = common.Broadcast("x"), common.Broadcast("x", queue="q")
    unique, own = common.Broadcast("x", queue="q", unique=True), common.Broadcast(exchange=library.Exchange("y"))
    assert plain.name.startswith("bcast.")
    assert plain.name != common.Broadcast("x").name
    assert (named.name, named.alias, named.auto_delete) == ("q", "x", True)
    assert (named.exchange.name, named.exchange.type) == ("x", "fanout")
    assert unique.name.startswith("q.")
    assert own.exchange.name == "y"
    bound = named(library.Connection("memory://").default_channel)
    assert (bound.name, bound.exchange.type, type(bound)) == ("q", "fanout", common.Broadcast)


def test_messages_can_be_iterated_over(library: Any, common: Any, connection: Any) -> None:
    """Up to a number, while they come in time; the consumer is gone afterwards."""
    queue = library.Queue(f"iter-{uuid()}")
    producer = connection.Producer(routing_key=queue.name)
    for number in range(2):
        producer.publish([number], declare=[queue])
    seen: list[Any] = []
    callbacks = [lambda body, message: seen.append(body)]
    channel = connection.default_channel
    found = list(common.itermessages(connection, channel, queue, limit=2, timeout=1, callbacks=callbacks, no_ack=False))
    assert [body for body, _ in found] == seen == [[0], [1]]
    for _, message in found:
        message.ack()
    producer.publish([2])
    consumer = connection.Consumer([queue])
    ((body, message),) = common.drain_consumer(consumer, limit=2, timeout=0.3)
    assert body == [2]
    message.ack()
    assert list(common.itermessages(connection, channel, queue, timeout=0.1)) == []


def test_the_event_loop_ends_by_its_limit_or_timeout(library: Any, common: Any, connection: Any) -> None:
    """Ignored timeouts count, but yield nothing."""
    queue = library.Queue(f"loop-{uuid()}")
    for _ in range(2):
        # Before consuming: while py-amqp waits for a reply it hands out what was delivered already.
        connection.Producer(routing_key=queue.name).publish("m", declare=[queue])
    with connection.Consumer([queue], no_ack=True, callbacks=[lambda body, message: None]):
        assert len(list(common.eventloop(connection, limit=2, timeout=PATIENCE))) == 2
        with pytest.raises(TimeoutError):
            next(common.eventloop(connection, timeout=0.1))
        assert list(common.eventloop(connection, limit=2, timeout=0.1, ignore_timeouts=True)) == []


@pytest.mark.parametrize("no_ack", [True, False])
def test_a_request_is_answered(library: Any, common: Any, connection: Any, no_ack: bool) -> None:
    """To its ``reply_to``, with its ``correlation_id``, in its serializer; answers are collected and settled."""
    requests, replies = library.Queue(f"requests-{uuid()}"), library.Queue(f"replies-{uuid()}")
    producer, channel = connection.Producer(), connection.default_channel
    replies(channel).declare()
    producer.publish(
        {"n": 1}, requests.name, declare=[requests], reply_to=replies.name, correlation_id="c", serializer="json"
    )
    ((_, request),) = common.itermessages(connection, channel, requests, timeout=PATIENCE)
    request.ack()
    for number in range(2):
        common.send_reply("", request, {"answer": number}, producer)
    answers = list(common.collect_replies(connection, channel, replies, limit=2, timeout=PATIENCE, no_ack=no_ack))
    assert answers == [{"answer": 0}, {"answer": 1}]
    common.send_reply("", request, {"answer": 2}, producer, retry=True, correlation_id="mine")
    ((_, last),) = common.itermessages(connection, channel, replies, timeout=PATIENCE, no_ack=True)
    assert (last.payload, last.properties["correlation_id"]) == ({"answer": 2}, "mine")
    assert last.content_type == "application/json"
    assert list(common.itermessages(connection, channel, replies, timeout=0.1)) == []


def test_errors_are_ignored_where_asked(library: Any, common: Any) -> None:
    """Those of connection and channel; others go through."""
    connection = library.Connection("memory://")

    def fails(error: Exception) -> None:
        raise error

    common.ignore_errors(connection, fails, connection.connection_errors[0]("lost"))
    assert common.ignore_errors(connection, lambda: 7) == 7
    with common.ignore_errors(connection):
        fails(connection.channel_errors[0]("404"))
    with pytest.raises(ZeroDivisionError), common.ignore_errors(connection):
        fails(ZeroDivisionError())


def test_ids_of_objects(common: Any) -> None:
    """The same for the same object, thread and process; UUIDs."""
    one, other = object(), object()
    assert common.oid_from(one) == common.oid_from(one)
    assert common.oid_from(one) != common.oid_from(other)
    elsewhere: list[str] = []
    thread = threading.Thread(
        target=lambda: elsewhere.extend([common.oid_from(one), common.oid_from(one, threads=False)])
    )
    thread.start()
    thread.join()
    assert elsewhere[0] != common.oid_from(one)
    assert elsewhere[1] == common.oid_from(one, threads=False)
    assert str(UUID(common.oid_from(one))) == common.oid_from(one)
    kombus = import_module("kombu.common").generate_oid(1, os.getpid(), 3, one)
    assert common.generate_oid(1, os.getpid(), 3, one) == kombus


def test_prefetch_counts_are_changed_in_any_thread_and_applied_in_one(common: Any) -> None:
    """Up, down to 1, bounded; 0 stays 0; beyond 16 bits there is no bound."""
    applied: list[int] = []
    qos = common.QoS(lambda prefetch_count: applied.append(prefetch_count), 2, max_prefetch=4)
    assert qos.update() == 2
    assert [qos.increment_eventually(), qos.increment_eventually(5), qos.increment_eventually(-3)] == [3, 4, 4]
    assert (qos.value, qos.prev) == (4, 2)
    assert qos.update() == qos.update() == 4
    assert [qos.decrement_eventually(2), qos.decrement_eventually(9)] == [2, 1]
    assert qos.set(70_000) == 70_000
    assert applied == [2, 4, 0]
    none = common.QoS(lambda prefetch_count: None, 0)
    assert [none.increment_eventually(), none.decrement_eventually()] == [0, 0]


def test_declaring_once(library: Any, common: Any, connection: Any) -> None:
    """``maybe_declare`` says whether it did."""
    exchange = library.Exchange(f"once-{uuid()}")(connection.default_channel)
    assert [common.maybe_declare(exchange), common.maybe_declare(exchange)] == [True, False]
    other = library.Exchange(f"once-{uuid()}")
    assert common.maybe_declare(other, connection.default_channel, retry=True, max_retries=1)


def test_an_insured_call_rides_out_errors(library: Any, common: Any) -> None:
    """It is made with a pool's connection and its channel, again when that fails; the connection is returned."""
    pool = library.Connection(f"memory://{uuid()}").Pool(1)
    errors: list[Any] = []
    revived: list[Any] = []
    calls: list[Any] = []

    def work(number: int, *, keyword: int, channel: Any, connection: Any) -> int:
        assert connection.default_channel is not None
        calls.append(channel)
        if len(calls) == 1:
            raise connection.connection_errors[0]("lost") if library.__name__ == "kombu" else OSError("lost")
        return number + keyword

    result = common.insured(
        pool, work, (1,), {"keyword": 2}, errback=lambda exc, interval: errors.append((str(exc), interval)),
        on_revive=revived.append, interval_start=0,
    )  # fmt: skip
    assert result == 3
    assert [interval for _, interval in errors] == [0]
    assert len(calls) == 2
    assert revived == [calls[1]]
    pool.acquire().release()
    pool.force_close_all()


def test_a_queue_from_an_entry_of_a_configuration() -> None:
    """Names as in Celery's old settings."""
    queue = import_module("kombu_actors.common").entry_to_queue(
        "q", exchange="x", exchange_type="topic", routing_key="k"
    )
    assert (queue.name, queue.exchange.name, queue.exchange.type, queue.routing_key) == ("q", "x", "topic", "k")


# Beyond kombu


def test_a_broadcast_listener_listens_again_after_a_fault(outpost: Outpost) -> None:
    """Its queue went with the connection; supervision makes it again."""
    with Connection(outpost.url) as connection, Connection(outpost.url) as other:
        got: list[Any] = []
        listener = Broadcast("news", exclusive=True)
        with connection.Consumer([listener], no_ack=True, callbacks=[lambda body, message: got.append(body)]):
            for number in range(3):
                other.Producer().publish(number, exchange="news", retry=True)
                connection.drain_events(timeout=PATIENCE)
                outpost.cut()
                _until_listening(connection)
        assert got == [0, 1, 2]


def _until_listening(connection: Connection) -> None:
    """Wait for the whole tree, consumers included; a call on the channel would not wait for those."""
    connection.ensure_connection()
    connection.default_channel.wait_open(PATIENCE)
    tree = connection._runs.running()
    tree.portal.call(tree.actor.supervisor.wait_ready, timeout=PATIENCE)


def test_an_insured_call_ends_when_its_retries_are_used_up() -> None:
    """With the library's error."""
    pool = Connection(f"memory://{uuid()}").Pool(1)

    def work(*, channel: Any, connection: Any) -> None:
        raise OSError("lost")

    with pytest.raises(OperationalError, match="lost"):
        insured(pool, work, (), {}, errback=lambda exc, interval: None, max_retries=2, interval_start=0)
    pool.acquire().release()


def test_declaring_without_a_channel_says_so() -> None:
    """Nothing to declare it over."""
    with pytest.raises(ChannelError, match="Cannot bind channel None"):
        import_module("kombu_actors.common").maybe_declare(Exchange("x"))


def test_tokens_come_at_their_rate() -> None:
    """Full at first; then one at a time."""
    bucket = TokenBucket(50, capacity=2)
    assert [bucket.can_consume() for _ in range(3)] == [True, True, False]
    wait = bucket.expected_time()
    assert 0 < wait <= 1 / 50
    threading.Event().wait(wait)
    assert bucket.can_consume()
    assert TokenBucket(1).expected_time(3) > 1.9
    for item in "abc":
        bucket.add(item)
    assert (bucket.pop(), list(bucket.contents)) == ("a", ["b", "c"])
    bucket.clear_pending()
    with pytest.raises(IndexError):
        bucket.pop()
