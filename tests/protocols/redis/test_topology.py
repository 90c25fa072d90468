"""Exchanges, queues and bindings in Redis: RabbitMQ's answers, kombu's keys, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis
from amqp import exceptions as amqp_errors
from amqp.exceptions import AMQPError

from kombu_actors._values.model import ExchangeSpec, QueueInfo, QueueSpec
from kombu_actors.protocols.redis import topology_calls
from kombu_actors.protocols.redis.layout import SEPARATOR, Layout

from .driver import Client, Driver, to_exchange, to_queue

ODD_NAMES = ["a b", 'say "hi"', "it's", "q\\r\\n\r\n", "grüße 🐇", "\x06", "\x16\x06", "%s{}[]", "a/b/c", "-1", "a\0b"]

Ask = Callable[[], Any]


# queues


def test_a_declared_queue_is_found_again(driver: Driver) -> None:
    """Declared twice it's the same queue; looked at, it says what waits in it."""
    assert driver.queue("q") == QueueInfo("q", 0, 0)
    driver.publish("q", b"one")
    assert driver.queue("q") == QueueInfo("q", 1, 0)
    assert driver.queue("q", passive=True) == QueueInfo("q", 1, 0)


def test_a_missing_queue_is_not_found(driver: Driver) -> None:
    """Passive declarations and purges answer 404, and make nothing."""
    for ask in (lambda: driver.queue("q", passive=True), lambda: driver.purge("q")):
        with pytest.raises(amqp_errors.NotFound, match="NOT_FOUND - no queue 'q' in vhost '0'"):
            ask()
    assert driver.leftovers() == set()
    assert driver.delete_queue("q") == 0


def test_what_stock_kombu_made_is_a_queue(driver: Driver, client: Client) -> None:
    """Stock kombu leaves no record of a queue: its list is one, and declaring it adds the record."""
    client.lpush(f"q{SEPARATOR}3", '{"body": "x"}')
    assert driver.queue("q", passive=True).messages == 1
    assert driver.queue("q", {"x-max-length": 3}).messages == 1
    with pytest.raises(amqp_errors.PreconditionFailed):
        driver.queue("q")
    assert driver.purge("q") == 1


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"durable": True}, {"durable": False}),
        ({}, {"auto_delete": True}),
        ({"arguments": {"x-max-length": 5}}, {"arguments": {"x-max-length": 6}}),
        ({"arguments": {"x-expires": 5}}, {}),
        ({}, {"arguments": {"x-message-ttl": 5}}),
    ],
)
def test_a_queue_declared_differently_is_refused(driver: Driver, first: dict[str, Any], again: dict[str, Any]) -> None:
    """406 names the argument; the first declaration stays."""
    driver.queue("q", **first)
    with pytest.raises(amqp_errors.PreconditionFailed, match="inequivalent arg") as refusal:
        driver.queue("q", **again)
    assert refusal.value.method_name == "Queue.declare"
    driver.queue("q", **first)


@pytest.mark.parametrize("arguments", [{"x-expires": 0}, {"x-max-length": -1}, {"x-overflow": "drop"}])
def test_bad_queue_arguments_are_refused_before_anything_is_sent(arguments: dict[str, Any]) -> None:
    """406 comes from the builder of the call."""
    with pytest.raises(amqp_errors.PreconditionFailed) as refusal:
        topology_calls.queue_declare(QueueSpec(name="q", arguments=arguments))
    assert refusal.value.method_name == "Queue.declare"


def test_reserved_names_are_refused(driver: Driver) -> None:
    """``amq.`` is the broker's own; a made-up name may be declared, and declared again."""
    for declare in (lambda: driver.queue("amq.mine"), lambda: driver.exchange("amq.mine")):
        with pytest.raises(amqp_errors.AccessRefused, match="contains reserved prefix"):
            declare()
    driver.run(topology_calls.queue_declare(QueueSpec(name="amq.gen-1"), fresh=True))
    assert driver.queue("amq.gen-1").messages == 0


def test_a_queue_that_we_named_is_gone_with_its_record(driver: Driver) -> None:
    """What is published to its name afterwards doesn't bring it back; stock kombu's have names of another form."""
    ours, kombus = f"amq.gen-{uuid4().hex}", f"amq.gen-{uuid4()}"
    driver.run(topology_calls.queue_declare(QueueSpec(name=ours), fresh=True))
    driver.publish(ours)
    assert driver.queue(ours, passive=True).messages == 1
    driver.delete_queue(ours)
    for name in (ours, kombus):
        driver.publish(name)
    with pytest.raises(amqp_errors.NotFound):
        driver.queue(ours, passive=True)
    assert driver.queue(kombus, passive=True).messages == 1


def test_an_exclusive_queue_is_its_owners(driver: Driver) -> None:
    """Everything but publishing is 405 for others; the owner may declare it again, exclusively."""
    other = driver.another()
    driver.queue("q", exclusive=True)
    assert driver.queue("q", exclusive=True) == QueueInfo("q", 0, 0)
    assert driver.client.smembers(driver.key(f"held.{driver.owner}")) == {b"q:q"}
    driver.bind("amq.direct", "q", "k")
    refused: list[Ask] = [
        lambda: driver.queue("q"),
        lambda: other.queue("q", exclusive=True),
        lambda: other.queue("q"),
        lambda: other.queue("q", passive=True),
        lambda: other.purge("q"),
        lambda: other.delete_queue("q"),
        lambda: other.bind("amq.direct", "q", "j"),
        lambda: other.unbind(to_queue("amq.direct", "q", "k")),
    ]
    for ask in refused:
        with pytest.raises(amqp_errors.ResourceLocked):
            ask()
    other.publish("k", b"m", "amq.direct")
    assert driver.delete_queue("q") == 1
    assert driver.leftovers() == set()


def test_a_shared_queue_is_not_made_exclusive(driver: Driver) -> None:
    """As in RabbitMQ: the exclusive flag must match."""
    driver.queue("q")
    with pytest.raises(amqp_errors.ResourceLocked):
        driver.queue("q", exclusive=True)


def test_a_deleted_queue_leaves_nothing(driver: Driver, client: Client) -> None:
    """Messages of all priorities, bindings, timers and records go; the count says what waited."""
    driver.queue("q", {"x-expires": 60_000, "x-message-ttl": 60_000})
    driver.exchange("h", "headers")
    for source in ("amq.direct", "amq.topic", "amq.fanout", "h"):
        driver.bind(source, "q", "k.*", durable=True)
    driver.bind("amq.fanout", "q", "other")
    for priority in (0, 4, 9):
        driver.publish("q", priority=priority)
    with pytest.raises(amqp_errors.PreconditionFailed, match="not empty"):
        driver.delete_queue("q", if_empty=True)
    assert driver.delete_queue("q") == 3
    assert driver.leftovers() == {driver.key("exchanges").encode()}


def test_consumers_are_told_of_the_end(driver: Driver, client: Client) -> None:
    """Every owner that consumes hears it once; a queue in use isn't deleted with if_unused."""
    driver.queue("q")
    other = driver.another()
    consumers = {f"{driver.owner}/1/t/a/g": "0", f"{driver.owner}/2/t": "0", f"{other.owner}/1/t": "0"}
    client.hset(driver.key("consumers.q"), mapping=consumers)
    held = driver.key(f"held.{driver.owner}")
    client.sadd(held, "c:q\x001\x00t/a/g", "c:q\x002\x00t", "w:q\x001", "c:kept\x002\x00t", "w:kept\x001")
    client.zadd(driver.key("waiting.q"), {f"{driver.owner}/1": 1, f"{other.owner}/1": 2})
    client.sadd(driver.key("sentries.q"), f"{driver.owner}/1")
    assert driver.queue("q", passive=True).consumers == 3
    with pytest.raises(amqp_errors.PreconditionFailed, match="in use"):
        driver.delete_queue("q", if_unused=True)
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe(driver.key("wake.*"))
        assert heard.get_message(timeout=1) is None
        driver.delete_queue("q")
        told = [heard.get_message(timeout=1) for _ in range(2)]
        assert {(item["channel"].decode(), item["data"]) for item in told if item} == {
            (driver.key(f"wake.{driver.owner}"), b"x q"),
            (driver.key(f"wake.{other.owner}"), b"x q"),
        }
        assert heard.get_message() is None
    assert client.smembers(held) == {b"c:kept\x002\x00t", b"w:kept\x001"}
    assert driver.leftovers() == {held.encode()}


def test_a_purge_takes_only_what_waits(driver: Driver) -> None:
    """All priorities are emptied; queue and bindings stay."""
    driver.queue("q")
    driver.bind("amq.direct", "q", "k")
    for priority in (0, 3, 9):
        driver.publish("k", exchange="amq.direct", priority=priority, expiration="60000")
    assert driver.purge("q") == 3
    assert driver.client.exists(driver.key("timers")) == 0
    assert driver.purge("q") == 0
    assert driver.publish("k", exchange="amq.direct", mandatory=True) == 0


def test_declaring_a_queue_that_expires_starts_its_clock(driver: Driver, client: Client) -> None:
    """And starts it anew when declared again; a look at it doesn't."""
    driver.queue("q", {"x-expires": 60_000})
    timer = client.zscore(driver.key("timers"), "idle q")
    assert timer == pytest.approx(client.time()[0] * 1000 + 60_000, abs=5_000)
    client.zadd(driver.key("timers"), {"idle q": 1})
    driver.queue("q", passive=True)
    assert client.zscore(driver.key("timers"), "idle q") == 1
    driver.queue("q", {"x-expires": 60_000})
    assert client.zscore(driver.key("timers"), "idle q") >= timer


# exchanges


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_a_declared_exchange_is_found_again(driver: Driver, kind: str) -> None:
    """Declaring it again as it is does nothing; otherwise 406 says what differs."""
    driver.exchange("x", kind, durable=False, arguments={"alternate-exchange": "y"})
    before = driver.everything()
    driver.exchange("x", kind, durable=False, arguments={"alternate-exchange": "y"})
    driver.exchange("x", passive=True)
    for options in ({}, {"durable": False}, {"durable": False, "internal": True}):
        with pytest.raises(amqp_errors.PreconditionFailed, match="inequivalent arg"):
            driver.exchange("x", kind, **options)
    assert driver.everything() == before


def test_a_missing_exchange_is_not_found(driver: Driver) -> None:
    """Passive declarations answer 404; deleting it is fine."""
    with pytest.raises(amqp_errors.NotFound, match="no exchange 'x'"):
        driver.exchange("x", passive=True)
    driver.delete_exchange("x")


def test_built_in_exchanges_are_there(driver: Driver) -> None:
    """They can be declared as they are, bound to, and not deleted."""
    for name, kind in {"direct": "direct", "fanout": "fanout", "topic": "topic", "match": "headers"}.items():
        driver.exchange(f"amq.{name}", kind)
        driver.exchange(f"amq.{name}", passive=True)
        with pytest.raises(amqp_errors.PreconditionFailed):
            driver.exchange(f"amq.{name}", "direct" if kind != "direct" else "topic")
        with pytest.raises(amqp_errors.AccessRefused):
            driver.delete_exchange(f"amq.{name}")
    assert driver.leftovers() == set()


def test_the_default_exchange_is_not_for_declaring() -> None:
    """403 before anything is sent."""
    builds: list[Ask] = [
        lambda: topology_calls.exchange_declare(ExchangeSpec(name="")),
        lambda: topology_calls.exchange_delete(""),
        lambda: topology_calls.bind(to_queue("", "q")),
        lambda: topology_calls.unbind(to_queue("", "q")),
        lambda: topology_calls.bind(to_exchange("x", "")),
        lambda: topology_calls.unbind(to_exchange("x", "")),
    ]
    for build in builds:
        with pytest.raises(amqp_errors.AccessRefused, match="default exchange"):
            build()


def test_unknown_types_are_refused() -> None:
    """503, as RabbitMQ closes the connection for it."""
    with pytest.raises(amqp_errors.InvalidCommand, match="unknown exchange type 'x-weird'"):
        topology_calls.exchange_declare(ExchangeSpec(name="x", type="x-weird"))
    with pytest.raises(amqp_errors.PreconditionFailed, match="alternate-exchange"):
        topology_calls.exchange_declare(ExchangeSpec(name="x", arguments={"alternate-exchange": 1}))


def test_a_deleted_exchange_leaves_nothing(driver: Driver) -> None:
    """Its bindings go in both directions, and only its own."""
    driver.queue("q")
    for kind in ("direct", "topic", "fanout", "headers"):
        driver.exchange(kind, kind)
    kept = driver.everything()
    for kind in ("direct", "topic", "fanout", "headers"):
        driver.bind(kind, "q", "k", durable=True)
        driver.bind_exchange(kind, "amq.direct", "k")
        driver.bind_exchange("amq.topic", kind, "k")
        with pytest.raises(amqp_errors.PreconditionFailed, match="in use"):
            driver.delete_exchange(kind, if_unused=True)
        driver.delete_exchange(kind)
        driver.exchange(kind, kind)
    assert driver.everything() == kept


# bindings


def test_bindings_need_both_ends(driver: Driver) -> None:
    """404 names the one that is missing."""
    driver.queue("q")
    for binding, missing in [
        (to_queue("x", "q"), "exchange 'x'"),
        (to_queue("amq.direct", "r"), "queue 'r'"),
        (to_exchange("amq.direct", "y"), "exchange 'y'"),
    ]:
        with pytest.raises(amqp_errors.NotFound, match=missing):
            driver.bind_as(binding)


@pytest.mark.parametrize("value", ["some", 1, None])
def test_headers_bindings_must_say_how_to_match(driver: Driver, value: Any) -> None:
    """406 for a word that isn't one of the four, on headers exchanges alone."""
    driver.queue("q")
    binding = to_queue("amq.headers", "q", **{"x-match": value})
    with pytest.raises(amqp_errors.PreconditionFailed, match="x-match"):
        driver.bind_as(binding)
    driver.bind("amq.direct", "q", **{"x-match": value})


@pytest.mark.parametrize("source", ["amq.direct", "amq.topic", "amq.fanout", "amq.headers"])
@pytest.mark.parametrize("durable", [False, True])
def test_unbinding_undoes_binding(driver: Driver, source: str, durable: bool) -> None:
    """Bound twice and unbound once it's gone, and so are its traces; unbinding again does nothing."""
    driver.queue("q")
    before = driver.everything()
    for key in ("", "k.#", "a b"):
        for make in (to_queue, to_exchange):
            binding = make(source, "q" if make is to_queue else "amq.topic", key, a=[1, {"b": None}])
            driver.bind_as(binding, durable=durable)
            driver.bind_as(binding, durable=durable)
            driver.unbind(binding)
            driver.unbind(binding)
            assert driver.everything() == before


def test_the_last_kind_of_fanout_binding_counts(driver: Driver) -> None:
    """Durable or not: both together would deliver everything twice."""
    driver.queue("q")
    driver.bind("amq.fanout", "q")
    transient = driver.everything()
    driver.bind("amq.fanout", "q", durable=True)
    assert driver.client.smembers(driver.key("fanout.q")) == {f"damq.fanout{SEPARATOR}".encode()}
    driver.bind("amq.fanout", "q")
    assert driver.everything() == transient


def test_who_consumes_hears_of_changed_topics(driver: Driver, client: Client) -> None:
    """A fanout binding made or undone by another connection changes what a consumer must listen to."""
    driver.queue("q")
    client.hset(driver.key("consumers.q"), f"{driver.owner}/1/t", "0")
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(driver.key(f"wake.{driver.owner}"))
        assert heard.get_message(timeout=1) is None
        other = driver.another()
        binding = other.bind("amq.fanout", "q", "a.#")
        other.bind_as(binding)
        other.unbind(binding)
        other.bind("amq.direct", "q")
        told = [heard.get_message(timeout=1) for _ in range(2)]
        assert [item and item["data"] for item in told] == [b"f q", b"f q"]
        assert heard.get_message() is None


def test_auto_delete_exchanges_end_with_their_last_binding(driver: Driver) -> None:
    """Not before the first; and those that lead to them end with them, down a chain and round a circle."""
    driver.queue("q")
    for name in "abc":
        driver.exchange(name, "fanout" if name == "b" else "direct", auto_delete=True)
    driver.unbind(to_queue("a", "q"))
    driver.bind_exchange("a", "b")
    driver.bind_exchange("b", "c")
    driver.bind_exchange("c", "c", "itself")
    binding = driver.bind("c", "q", "k")
    driver.unbind(to_exchange("c", "c", "itself"))
    driver.exchange("a", passive=True)
    driver.unbind(binding)
    for name in "abc":
        with pytest.raises(amqp_errors.NotFound):
            driver.exchange(name, passive=True)
    assert driver.leftovers() == {driver.key("queues").encode()}


def test_the_end_of_a_queue_ends_auto_delete_exchanges(driver: Driver) -> None:
    """As its bindings go; an exchange with another binding stays."""
    driver.queue("q")
    driver.queue("r")
    for name in ("x", "y"):
        driver.exchange(name, "topic", auto_delete=True)
        driver.bind(name, "q", "#")
    driver.bind("y", "r", "#")
    driver.delete_queue("q")
    with pytest.raises(amqp_errors.NotFound):
        driver.exchange("x", passive=True)
    driver.exchange("y", passive=True)


# names


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_may_be_anything(driver: Driver, name: str) -> None:
    """Spaces, quotes, halves of kombu's separator, what looks like code: found by it, and gone without a trace."""
    driver.exchange(name, "topic")
    driver.exchange("h", "headers", auto_delete=True)
    driver.queue(name, {"x-max-length": 10})
    driver.bind(name, name, f"{name}.*")
    driver.bind_as(to_queue("h", name, name, **{"x-match": "any", name: name}))
    driver.bind_exchange(name, name, name)
    assert driver.publish(f"{name}.x", b"by topic", name, mandatory=True) == 0
    assert driver.publish("", b"by header", "h", mandatory=True, headers={name: name}) == 0
    assert driver.publish(name, b"by name", mandatory=True) == 0
    assert driver.bodies(name) == [b"by topic", b"by header", b"by name"]
    assert driver.delete_queue(name) == 3
    driver.delete_exchange(name)
    assert driver.leftovers() == set()


def test_names_with_kombus_separator_are_refused(driver: Driver) -> None:
    """406, and nothing done: stock kombu would break on such a binding, and such a list is another queue's."""
    driver.queue("q")
    driver.exchange(f"x{SEPARATOR}", "topic")
    before = driver.everything()
    for ask in (
        lambda: driver.queue(f"q{SEPARATOR}3"),
        lambda: driver.bind("amq.direct", "q", f"a{SEPARATOR}b"),
        lambda: driver.bind_exchange("amq.fanout", f"x{SEPARATOR}"),
        lambda: driver.bind(f"x{SEPARATOR}", "q"),
    ):
        with pytest.raises(amqp_errors.PreconditionFailed, match="separator"):
            ask()
    assert driver.everything() == before


@pytest.mark.parametrize("prefix", ["app:", "{tag}", "_kombu.binding."])
def test_a_key_prefix_holds_everything(client: Client, prefix: str) -> None:
    """All keys begin with it."""
    driver = Driver(client, Layout(global_keyprefix=prefix))
    driver.queue("q", {"x-expires": 1000, "x-max-length": 1, "x-dead-letter-exchange": ""})
    driver.bind("amq.topic", "q", "k")
    driver.bind("amq.fanout", "q", "k", durable=True)
    for _ in range(2):
        driver.publish("k", exchange="amq.topic", priority=5, expiration="1000")
    assert all(name.startswith(prefix.encode()) for name in client.scan_iter())
    assert len(driver.raw("q")) == 1


# leases


def test_a_lost_lease_changes_nothing(driver: Driver) -> None:
    """Every call answers FENCED and leaves the database as it is."""
    driver.queue("q")
    driver.lose_lease()
    driver.another()
    before = driver.everything()
    calls: list[Ask] = [
        lambda: driver.queue("r"),
        lambda: driver.exchange("x"),
        lambda: driver.delete_queue("q"),
        lambda: driver.delete_exchange("x"),
        lambda: driver.purge("q"),
        lambda: driver.bind("amq.direct", "q"),
        lambda: driver.unbind(to_queue("amq.direct", "q")),
        lambda: driver.publish("q"),
        lambda: driver.bury(1, "q"),
    ]
    for ask in calls:
        with pytest.raises(redis.exceptions.ResponseError, match=f"FENCED {driver.owner}"):
            ask()
    assert driver.everything() == before


def test_refusals_name_their_method(driver: Driver) -> None:
    """py-amqp's exceptions say which method was refused, as they do for AMQP."""
    expected: dict[str, Ask] = {
        "Queue.declare": lambda: driver.queue("q", passive=True),
        "Queue.purge": lambda: driver.purge("q"),
        "Queue.bind": lambda: driver.bind("amq.direct", "q"),
        "Exchange.declare": lambda: driver.exchange("x", passive=True),
        "Exchange.bind": lambda: driver.bind_exchange("amq.direct", "x"),
        "Exchange.delete": lambda: driver.delete_exchange("amq.direct"),
    }
    for name, ask in expected.items():
        with pytest.raises(AMQPError) as refusal:
            ask()
        assert refusal.value.method_name == name
