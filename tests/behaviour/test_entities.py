"""``Exchange``, ``Queue`` and ``binding``: declaring, binding, polling, deleting, comparing, pickling."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from time import sleep
from typing import Any

import amqp
import pytest

from .libraries import Library

EXCHANGES: list[dict[str, Any]] = [
    {},
    {"type": "topic"},
    {"type": "fanout", "durable": False, "auto_delete": True},
    {"type": "headers", "delivery_mode": "transient", "arguments": {"alternate-exchange": "x"}},
    {"delivery_mode": 2, "no_declare": True},
    {"passive": True},
]
QUEUES: list[dict[str, Any]] = [
    {},
    {"routing_key": "a.b"},
    {"durable": False, "exclusive": True, "auto_delete": True},
    {"no_ack": True, "alias": "other", "no_declare": True},
    {"expires": 2.5, "message_ttl": 1, "max_length": 3, "max_length_bytes": 4, "max_priority": 5},
    {"queue_arguments": {"x-a": 1}, "binding_arguments": {"x": 2}, "consumer_arguments": {"x-priority": 3}},
]


def entity(lib: Library, kind: str, options: dict[str, Any]) -> Any:
    return lib.Exchange("e", **options) if kind == "Exchange" else lib.Queue("q", lib.Exchange("e"), **options)


@pytest.mark.parametrize(
    ("kind", "options"), [*(("Exchange", each) for each in EXCHANGES), *(("Queue", each) for each in QUEUES)]
)
def test_declarations_have_the_same_attributes(kind: str, options: dict[str, Any]) -> None:
    """Given, defaulted and derived; the same text, too."""
    theirs, ours = (entity(Library(name), kind, options) for name in ("kombu", "kombu_actors"))
    assert [name for name, _ in ours.attrs] == [name for name, _ in theirs.attrs]
    for name, _ in theirs.attrs:
        if name not in ("exchange", "bindings"):
            assert getattr(ours, name) == getattr(theirs, name), name
    expiring = "expires" in options
    lasting = not options.get("auto_delete")
    for name, made in (("kombu", theirs), ("kombu_actors", ours)):
        cached = Library(name).either("expiring-queues", kombu=True, actors=not expiring)
        assert made.can_cache_declaration is (lasting and cached)
    assert str(ours) == str(theirs)
    assert repr(ours) == repr(theirs)
    assert ours.is_bound is theirs.is_bound is False


def test_declarations_compare_and_hash_by_what_they_declare(lib: Library) -> None:
    """So they may be kept in sets."""
    assert lib.Exchange("e", "topic") == lib.Exchange("e", "topic")
    assert lib.Exchange("e", "topic") != lib.Exchange("e", "direct")
    assert hash(lib.Exchange("e")) == hash(lib.Exchange("e"))
    assert lib.Queue("q", lib.Exchange("e"), "k") == lib.Queue("q", lib.Exchange("e"), "k")
    assert lib.Queue("q", lib.Exchange("e"), "k") != lib.Queue("q", lib.Exchange("e"), "l")
    assert len({lib.Queue("q"), lib.Queue("q"), lib.Queue("r")}) == 2
    assert (lib.Exchange.TRANSIENT_DELIVERY_MODE, lib.Exchange.PERSISTENT_DELIVERY_MODE) == (1, 2)


def test_declarations_are_pickled_unbound(lib: Library, connection: Any, name: str) -> None:
    """A channel can't travel; everything else does."""
    exchange = lib.Exchange(name, "topic", delivery_mode=1)(connection)
    queue = lib.Queue(name, exchange, "a.*", max_length=5)(connection)
    for bound in (exchange, queue):
        copied = pickle.loads(pickle.dumps(bound))
        assert copied == bound
        assert not copied.is_bound
    assert pickle.loads(pickle.dumps(queue)).exchange == exchange


def test_binding_gives_a_bound_copy(lib: Library, connection: Any, name: str) -> None:
    """By calling, by ``bind`` and by ``maybe_bind``; what was bound stays as it is."""
    channel = connection.channel()
    for made in (lib.Exchange(name), lib.Queue(name)):
        bound = made(channel)
        assert bound.is_bound
        assert not made.is_bound
        assert bound.channel is channel
        assert bound.maybe_bind(channel) is bound
        assert made.bind(channel).channel is channel
        assert "bound to" in repr(bound)
    channel.close()


def test_unbound_declarations_cannot_be_used(lib: Library) -> None:
    """There is no channel to use."""
    with pytest.raises(lib.module("exceptions").NotBoundError):
        lib.Exchange("e").declare()
    with pytest.raises(lib.module("exceptions").NotBoundError):
        lib.Queue("q").declare()


def test_an_exchange_is_declared_used_and_deleted(lib: Library, connection: Any, name: str) -> None:
    """By its own methods."""
    exchange = lib.Exchange(name, "direct")(connection)
    exchange.declare()
    queue = lib.Queue(name, exchange, "k")(connection)
    queue.declare()
    exchange.publish(exchange.Message("body", headers={"a": 1}, delivery_mode="transient"), routing_key="k")
    exchange.publish("plain", routing_key="k")
    first, second = queue.get(no_ack=True), queue.get(no_ack=True)
    assert first.body in ("body", b"body")  # text on AMQP, bytes in memory; so in both libraries
    assert first.headers == {"a": 1}
    assert first.properties["delivery_mode"] == 1
    assert second.properties["delivery_mode"] == 2
    exchange.delete()
    queue.delete()


def test_passive_checks_without_creating(lib: Library, connection: Any, url: str, name: str) -> None:
    """404 when it isn't there, which ends that channel only."""
    on_amqp = url.startswith("amqp")
    kombus = (amqp.NotFound, 404) if on_amqp else (amqp.ChannelError, "404")
    not_found, code = lib.either("virtual-errors", kombu=kombus, actors=(amqp.NotFound, 404))
    for declare in (
        lib.Exchange(name, passive=True)(connection.channel()).declare,
        partial(lib.Exchange(name)(connection.channel()).declare, passive=True),
        partial(lib.Queue(name)(connection.channel()).queue_declare, passive=True),
    ):
        with pytest.raises(not_found) as caught:
            declare()
        assert caught.value.reply_code == code
    channel = connection.channel()
    lib.Exchange(name, auto_delete=True)(channel).declare()
    lib.Exchange(name)(channel).declare(passive=True)
    lib.Exchange(name)(channel).delete()


def test_other_settings_are_refused(lib: Library, broker_url: str, connect: Callable[..., Any], name: str) -> None:
    """406."""
    connection = connect(broker_url)
    lib.Queue(name, max_length=1)(connection).declare()
    with pytest.raises(amqp.PreconditionFailed):
        lib.Queue(name, max_length=2)(connection.channel()).declare()
    lib.Queue(name)(connection.channel()).delete()


def test_no_declare_declares_nothing(lib: Library, broker_url: str, connect: Callable[..., Any], name: str) -> None:
    """Nor is the default exchange ever declared."""
    connection = connect(broker_url)
    lib.Exchange(name, no_declare=True)(connection).declare()
    lib.Exchange("")(connection).declare()
    lib.Exchange("amq.topic", "topic")(connection).declare()
    with pytest.raises(amqp.NotFound):
        lib.Exchange(name)(connection.channel()).declare(passive=True)


def test_exchanges_are_bound_and_unbound(lib: Library, broker_url: str, connect: Callable[..., Any], name: str) -> None:
    """To exchanges, and from them."""
    connection = connect(broker_url)
    source = lib.Exchange(f"{name}-a", "fanout")(connection)
    target = lib.Exchange(f"{name}-b", "fanout")(connection)
    source.declare()
    target.declare()
    queue = lib.Queue(name, target, exclusive=True)(connection)
    queue.declare()
    target.bind_to(source.name)
    source.publish("through")
    assert queue.get(no_ack=True).body == "through"
    target.unbind_from(source.name)
    source.publish("elsewhere")
    assert queue.get() is None
    source.delete()
    target.delete()


def test_exclusive_queues_in_memory(lib: Library, connect: Callable[..., Any], name: str) -> None:
    """One connection's, as on RabbitMQ; kombu's memory transport takes no notice."""
    one, other = (connect(f"memory://{name}") for _ in range(2))
    lib.Queue(name, exclusive=True)(one).declare()
    if lib.either("memory-exclusive", kombu=True, actors=False):
        lib.Queue(name, exclusive=True)(other).declare()
    else:
        with pytest.raises(amqp.ResourceLocked):
            lib.Queue(name, exclusive=True)(other).declare()


def test_if_unused_and_if_empty_protect(lib: Library, broker_url: str, connect: Callable[..., Any], name: str) -> None:
    """406 for what is used, or not empty."""
    connection = connect(broker_url)
    exchange = lib.Exchange(name)(connection)
    queue = lib.Queue(name, exchange, "k")(connection)
    queue.declare()
    exchange.publish("x", routing_key="k")
    with pytest.raises(amqp.PreconditionFailed):
        lib.Exchange(name)(connection.channel()).delete(if_unused=True)
    with pytest.raises(amqp.PreconditionFailed):
        lib.Queue(name)(connection.channel()).delete(if_empty=True)
    lib.Queue(name)(connection.channel()).purge()
    channel = connection.channel()
    consumer = connection.Consumer(queue, channel, callbacks=[print])
    consumer.consume()
    with pytest.raises(amqp.PreconditionFailed):
        lib.Queue(name)(connection.channel()).delete(if_unused=True)
    consumer.cancel()
    channel.close()
    lib.Queue(name)(connection.channel()).delete()
    lib.Exchange(name)(connection.channel()).delete(if_unused=True)


def test_declaring_a_queue_says_how_it_stands(lib: Library, connection: Any, name: str) -> None:
    """Name, messages, consumers; ``on_declared`` is told the same."""
    told: list[tuple[Any, ...]] = []
    queue = lib.Queue(name, lib.Exchange(name), name, on_declared=lambda *args: told.append(args))(connection)
    assert queue.declare() == name
    queue.exchange.publish("x", routing_key=name)
    answer = queue.queue_declare()
    assert answer == name or tuple(answer) == (name, 1, 0)
    assert tuple(told[0][:3]) == (name, 0, 0)
    assert queue.purge() == 1
    assert queue.purge() == 0
    queue.delete()


def test_a_nameless_queue_is_named(lib: Library, connection: Any) -> None:
    """By the broker."""
    queue = lib.Queue(exclusive=True)(connection)
    named = queue.queue_declare()
    assert queue.name
    assert named
    other = lib.Queue(exclusive=True)(connection)
    other.queue_declare()
    assert other.name != queue.name


def test_polling_a_queue(lib: Library, connection: Any, name: str) -> None:
    """A message or ``None``; ``accept`` says what may be decoded."""
    queue = lib.Queue(name)(connection)
    queue.declare()
    assert queue.get() is None
    connection.Producer(serializer="pickle").publish([1], routing_key=name)
    connection.Producer().publish({"a": 1}, routing_key=name)
    message = queue.get(accept=["pickle"])
    assert message.payload == [1]
    message.ack()
    message = queue.get(no_ack=True)
    assert message.payload == {"a": 1}
    assert message.delivery_info["routing_key"] == name
    queue.delete()


def test_queues_are_bound_unbound_and_bound_again(lib: Library, connection: Any, name: str) -> None:
    """By hand: ``queue_bind``, ``bind_to``, ``unbind_from``."""
    exchange = lib.Exchange(name, "topic")(connection)
    queue = lib.Queue(name, exchange, "a.*")(connection)
    exchange.declare()
    queue.queue_declare()
    queue.queue_bind()
    queue.bind_to(exchange, "b.#")
    for key in ("a.x", "b.x.y", "c"):
        exchange.publish(key, routing_key=key)
    assert sorted(queue.get(no_ack=True).delivery_info["routing_key"] for _ in range(2)) == ["a.x", "b.x.y"]
    assert queue.get() is None
    if lib.either("memory-unbinds", kombu=not connection.as_uri().startswith("memory"), actors=True):
        queue.unbind_from(exchange, "b.#")
        exchange.publish("b", routing_key="b")
        assert queue.get() is None
    queue.delete()


def test_several_bindings(lib: Library, connection: Any, name: str) -> None:
    """One queue, several keys and exchanges."""
    one, two = lib.Exchange(f"{name}-1", "direct"), lib.Exchange(f"{name}-2", "topic")
    queue = lib.Queue(name, [lib.binding(one, "k"), lib.binding(two, "t.*")])(connection)
    queue.declare()
    one(connection).publish("1", routing_key="k")
    two(connection).publish("2", routing_key="t.x")
    found = {str(queue.get(no_ack=True).delivery_info["exchange"]) for _ in range(2)}
    assert found == {one.name, two.name}
    queue.delete()


@pytest.mark.parametrize(
    ("kind", "binding_key", "hits", "misses"),
    [
        ("direct", "a", ["a"], ["b", "a.b"]),
        ("topic", "a.*", ["a.b"], ["a", "a.b.c", "b.a"]),
        ("topic", "#.z", ["z", "a.z", "a.b.z"], ["z.a"]),
        ("topic", "*.stock.#", ["usd.stock", "eur.stock.db"], ["stock.nasdaq"]),
        ("fanout", "", ["a", "b"], []),
    ],
)
def test_routing(
    lib: Library, connection: Any, name: str, kind: str, binding_key: str, hits: list[str], misses: list[str]
) -> None:
    """As AMQP has it."""
    exchange = lib.Exchange(name, kind)
    queue = lib.Queue(name, exchange, binding_key)(connection)
    queue.declare()
    zero_words = {("#.z", "z"), ("*.stock.#", "usd.stock")}  # keys in which "#" stands for no word
    if lib.either("virtual-topics", kombu=not connection.as_uri().startswith("amqp"), actors=False):
        hits = [key for key in hits if (binding_key, key) not in zero_words]
    if kind == "fanout" and connection.as_uri().startswith("redis"):
        hits = []  # Pub/Sub keeps nothing for who polls; see test_a_broadcast_reaches_everybody
    for key in misses + hits:
        exchange(connection).publish(key, routing_key=key)
    got = []
    while (message := queue.get(no_ack=True)) is not None:
        got.append(message.delivery_info["routing_key"])
    assert sorted(got) == sorted(hits)
    queue.delete()


def test_the_dictionary_form_of_a_queue(lib: Library) -> None:
    """Celery's configuration."""
    queue = lib.Queue.from_dict("q", exchange="e", exchange_type="topic", routing_key="k", durable=False)
    assert (queue.name, queue.exchange.name, queue.exchange.type, queue.routing_key) == ("q", "e", "topic", "k")
    assert queue.durable is False
    described = queue.as_dict(recurse=True)
    assert described["name"] == "q"
    assert described["exchange"]["name"] == "e"


def test_queue_limits_reach_the_broker(lib: Library, broker_url: str, connect: Callable[..., Any], name: str) -> None:
    """Seconds in, milliseconds out; RabbitMQ does the rest."""
    connection = connect(broker_url)
    queue = lib.Queue(name, message_ttl=0.05, max_length=2, max_priority=5)(connection)
    queue.declare()
    producer = connection.Producer(routing_key=name)
    for number in range(3):
        producer.publish(number)
    assert queue.get(no_ack=True).payload == 1
    sleep(0.1)  # its time to live is the broker's clock
    assert queue.get() is None
    producer.publish("low", priority=1)
    producer.publish("high", priority=5)
    assert queue.get(no_ack=True).payload in ("high", "low")
    queue.delete()
