"""What a broker can't carry is refused by name, before a byte is sent, and the connection goes on as before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from itertools import chain
from typing import Any, cast

import pytest
import trio
from amqp.exceptions import ChannelError, InvalidCommand, NotFound, PreconditionFailed

from kombu_actors import Connection, Exchange, Queue
from kombu_actors._facade.channel import Channel
from kombu_actors.actors.connection import ConnectionActor
from kombu_actors.broker import Broker, ExchangeSpec, QueueSpec
from kombu_actors.errors import (
    ConnectionClosed,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    MessageStateError,
    SerializerNotInstalled,
)
from kombu_actors.supervisors import ChildView
from tests.conformance.native import PATIENCE, fill, queue, restarted, take
from tests.conformance.realms import REALMS, Realm

LONG = "x" * 256
ACCENTED = "é" * 128
"""128 characters, 256 bytes."""
HUGE = {"h": "x" * 140_000}
"""Headers beyond the one frame that must carry them."""


class Odd:
    """Something that neither JSON nor AMQP can carry."""


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)


@pytest.fixture(params=sorted(REALMS))
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """An empty broker of each kind."""
    yield from REALMS[request.param](request)


@pytest.fixture
async def broker(realm: Realm) -> AsyncIterator[Broker]:
    """A native connection to it, with a queue ``q``."""
    async with realm.open_broker() as broker:
        await queue(broker, "q")
        yield broker


@pytest.fixture
def connection(realm: Realm) -> Iterator[Connection]:
    """A blocking connection to it, with a queue ``q``, whose publishes return when the broker has the message."""
    with realm.connect(transport_options={"confirm_publish": True}) as connection:
        Queue("q")(connection).declare()
        yield connection


async def snapshot(actor: ConnectionActor) -> ChildView:
    """The connection's supervision tree."""
    return actor.supervisor.snapshot()


def undisturbed(realm: Realm, connection: Connection) -> None:
    """Nothing reached the broker, nothing was restarted, and the connection works."""
    assert realm.depths() == {"q": 0}
    assert realm.connections() == 1
    waiting = [connection.call(snapshot, connection.connect().actor)]
    while waiting:
        view = waiting.pop()
        waiting += view.children
        assert not view.restarts, view.path
    connection.Producer().publish("still here", routing_key="q")
    assert realm.depths() == {"q": 1}


# -- messages -------------------------------------------------------------------------------------------

MESSAGES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a routing key over 255 bytes": ({"routing_key": LONG}, ValueError, "routing_key must be at most 255 bytes.*256"),
    "a routing key over 255 bytes in UTF-8": ({"routing_key": ACCENTED}, ValueError, "routing_key.*255 bytes.*256"),
    "a routing key that is no text": ({"routing_key": 5}, ValueError, "routing_key must be a str, not int"),
    "a routing key that can't be encoded": ({"routing_key": "\ud800"}, ValueError, "routing_key can't be encoded"),
    "an exchange over 255 bytes": ({"exchange": LONG}, ValueError, "exchange must be at most 255 bytes.*256"),
    "a body JSON can't carry": ({"body": Odd()}, EncodeError, "application/json.*Odd is not JSON serializable"),
    "a circular body": ({"body": CIRCULAR}, EncodeError, "application/json"),
    "a serializer nobody has": ({"serializer": "nope"}, SerializerNotInstalled, "'nope'; known: .*json"),
    "a body that should be bytes": ({"body": Odd(), "content_type": "x/y"}, TypeError, "body must be bytes, not Odd"),
    "a header of a strange type": ({"headers": {"a": {"b": [Odd()]}}}, ValueError, r"headers\['a'\]\['b'\]\[0\] has"),
    "a header beyond 64 bits": ({"headers": {"a": 2**63}}, ValueError, r"headers\['a'\] must fit 64"),
    "a decimal that is not finite": ({"headers": {"a": Decimal("NaN")}}, ValueError, r"headers\['a'\] must be a fin"),
    "a header's name over 255 bytes": ({"headers": {LONG: 1}}, ValueError, "key of headers must be at most 255"),
    "a header's name that is no text": ({"headers": {1: 1}}, ValueError, "key of headers must be a str"),
    "headers that are no mapping": ({"headers": ["a"]}, ValueError, "headers must be a mapping"),
    "headers beyond one frame": ({"headers": HUGE}, ValueError, "one frame of 131072 bytes.*into the body"),
    "a priority beyond 255": ({"priority": 300}, ValueError, "priority must be an int from 0 to 255, not 300"),
    "a priority below 0": ({"priority": -1}, ValueError, "priority must be an int from 0 to 255"),
    "a priority that is no number": ({"priority": "high"}, ValueError, "priority must be an int"),
    "an expiration that is no number": ({"expiration": "abc"}, ValueError, "expiration .*'abc"),
    "an expiration in the past": ({"expiration": -1}, ValueError, "expiration .*-1"),
    "an expiration beyond ten years": ({"expiration": 10**12}, ValueError, "expiration"),
    "a correlation id over 255 bytes": ({"correlation_id": LONG}, ValueError, "correlation_id must be at most 255"),
    "a timestamp that is no number": ({"timestamp": "now"}, ValueError, "timestamp must be an int"),
}
NATIVE_MESSAGES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    **MESSAGES,
    # The facade leaves it out, as kombu does, and warns.
    "a property AMQP doesn't have": ({"colour": "red"}, ValueError, "'colour' is not a message property.*headers"),
}


@pytest.mark.parametrize("what", MESSAGES)
def test_a_message_that_cannot_be_sent_is_not(realm: Realm, connection: Connection, what: str) -> None:
    """Facade: the argument is named, what is wrong with it and what to do, in the documented class."""
    arguments, kind, says = MESSAGES[what]
    with pytest.raises(kind, match=says) as caught:
        connection.Producer().publish(**{"body": "b", "routing_key": "q", **arguments})
    assert len(str(caught.value)) < 400
    undisturbed(realm, connection)


@pytest.mark.parametrize("what", NATIVE_MESSAGES)
async def test_a_native_message_that_cannot_be_sent_is_not(realm: Realm, broker: Broker, what: str) -> None:
    """The same classes and words."""
    arguments, kind, says = NATIVE_MESSAGES[what]
    arguments = {"body": "b", "routing_key": "q", **arguments}
    with pytest.raises(kind, match=says):
        await broker.publish(arguments.pop("body"), **arguments)
    assert realm.depths() == {"q": 0}
    assert restarted(broker) == []
    await fill(broker, "q", "still here")


# -- declarations ---------------------------------------------------------------------------------------

DECLARATIONS: dict[str, tuple[Callable[[Channel], object], type[Exception], str]] = {
    "a queue's name over 255 bytes": (lambda ch: ch.queue_declare(LONG), ValueError, "255 bytes of UTF-8, not 256"),
    "a queue's name that is no text": (lambda ch: ch.queue_declare(5), ValueError, "str, not int"),  # type: ignore[arg-type]
    "an exchange's name over 255 bytes": (lambda ch: ch.exchange_declare(ACCENTED), ValueError, "255 bytes of UTF-8"),
    "an exchange's name that is no text": (lambda ch: ch.exchange_declare(5), ValueError, "str, not int"),  # type: ignore[arg-type]
    "an exchange type nobody has": (lambda ch: ch.exchange_declare("x", "odd"), InvalidCommand, "exchange type 'odd'"),
    "a binding's key over 255 bytes": (lambda ch: ch.queue_bind("q", "amq.topic", LONG), ValueError, "255 bytes"),
    "an argument of a strange type": (
        lambda ch: ch.queue_declare("r", arguments={"a": Odd()}), ValueError, r"arguments\['a'\] has type Odd",
    ),
    "arguments beyond a frame": (
        lambda ch: ch.queue_declare("r", arguments={"a": "x" * 140_000}), ValueError, "fit a frame of 131072 bytes",
    ),
    "a binding's arguments beyond a frame": (
        lambda ch: ch.queue_bind("q", "amq.topic", "k", arguments={"a": "x" * 140_000}), ValueError, "fit a frame of",
    ),
    "a consumer's arguments beyond a frame": (
        lambda ch: ch.basic_consume("q", arguments={"a": "x" * 140_000}), ValueError, "fit a frame of 131072 bytes",
    ),
    "an exchange type that is no text": (
        lambda ch: ch.exchange_declare("x", cast("Any", 5)), ValueError, "a str, not int: 5",
    ),
    "an argument of a wrong type": (
        lambda ch: ch.queue_declare("r", arguments={"x-max-length": "many"}), PreconditionFailed, "'x-max-length'.*'r'",
    ),
    "an argument out of range": (
        lambda ch: ch.queue_declare("r", arguments={"x-message-ttl": -1}), PreconditionFailed, "'x-message-ttl'.*'r'",
    ),
    "another queue's arguments": (lambda ch: ch.queue_declare("q", auto_delete=True), PreconditionFailed, "queue 'q'"),
    "another exchange's type": (
        lambda ch: ch.exchange_declare("amq.direct", "topic", durable=True, auto_delete=False),
        PreconditionFailed,
        "'type' for exchange 'amq.direct'",
    ),
    "a name of the broker's own": (lambda ch: ch.queue_declare("amq.mine"), ChannelError, "reserved prefix 'amq.*'"),
    "a binding to a missing exchange": (lambda ch: ch.queue_bind("q", "nox", "k"), NotFound, "exchange 'nox'"),
    "a binding of a missing queue": (lambda ch: ch.queue_bind("noq", "amq.topic", "k"), NotFound, "queue 'noq'"),
    "a deletion of a name over 255 bytes": (lambda ch: ch.queue_delete(LONG), ValueError, "255 bytes"),
    "a purge of a queue that isn't there": (lambda ch: ch.queue_purge("noq"), NotFound, "queue 'noq'"),
    "a prefetch beyond 65535": (lambda ch: ch.basic_qos(0, 70_000, False), ValueError, "65535, not 70000"),
    "a prefetch below 0": (lambda ch: ch.basic_qos(0, -1, False), ValueError, "65535, not -1"),
    "an ack beyond 64 bits": (lambda ch: ch.basic_ack(2**64), ValueError, "delivery tag is a number from 0"),
    "a reject below 0": (lambda ch: ch.basic_reject(-1, requeue=True), ValueError, "from 0 to .*, not -1"),
    "a nack of no number": (lambda ch: ch.basic_nack(cast("Any", 1.5)), ValueError, "delivery tag is a number"),
    "a consumer tag over 255 bytes": (lambda ch: ch.basic_consume("q", LONG), ValueError, "255 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("what", DECLARATIONS)
def test_a_call_that_cannot_be_made_changes_nothing(realm: Realm, connection: Connection, what: str) -> None:
    """The documented class with the entity's name; the channel it was made on, and the connection, go on."""
    call, kind, says = DECLARATIONS[what]
    channel = connection.channel()
    with pytest.raises(kind, match=says):
        call(channel)
    assert channel.queue_declare("q", passive=True).message_count == 0
    undisturbed(realm, connection)


@pytest.mark.parametrize("prefetch", [70_000, -1, "10", 2.5])
async def test_a_subscription_with_a_prefetch_that_is_none_is_refused(
    realm: Realm, broker: Broker, prefetch: Any
) -> None:
    """At once, on every transport; nothing is left behind."""
    await broker.declare(QueueSpec(name="q"))
    with trio.fail_after(5), pytest.raises(ValueError, match="prefetch_count must be a number from 0"):
        async with broker.subscribe("q", prefetch=prefetch):
            raise AssertionError("subscribed")
    assert not broker._actor.channels


def test_a_qos_that_was_refused_is_not_wished_for_in_later_sessions(realm: Realm, connection: Connection) -> None:
    """The channel comes back after a cut with the QoS that it had."""
    channel = connection.channel()
    channel.basic_qos(0, 7, False)
    with pytest.raises(ValueError, match="65535, not 70000"):
        channel.basic_qos(0, 70_000, False)
    realm.cut_connections()
    assert channel.queue_declare("q", passive=True).message_count == 0
    channel.wait_open(10)
    assert channel.handle.actor.qos is not None
    assert channel.handle.actor.qos.prefetch_count == 7


NATIVE: dict[str, tuple[ExchangeSpec | QueueSpec, type[Exception], str]] = {
    "a queue's name over 255 bytes": (QueueSpec(name=LONG), ValueError, "255 bytes of UTF-8, not 256"),
    "an exchange's name over 255 bytes": (ExchangeSpec(name=ACCENTED), ValueError, "255 bytes of UTF-8"),
    "an exchange type nobody has": (ExchangeSpec(name="x", type="odd"), InvalidCommand, "exchange type 'odd'"),
    "an argument of a strange type": (QueueSpec(name="r", arguments={"a": Odd()}), ValueError, "has type Odd"),
    "another queue's arguments": (QueueSpec(name="q", auto_delete=True), PreconditionFailed, "queue 'q'"),
}


@pytest.mark.parametrize("what", NATIVE)
async def test_a_native_declaration_that_cannot_be_made_is_not(realm: Realm, broker: Broker, what: str) -> None:
    """And is not tried again in the next session."""
    spec, kind, says = NATIVE[what]
    with pytest.raises(kind, match=says):
        await broker.declare(spec)
    assert realm.depths() == {"q": 0}
    assert restarted(broker) == []
    await fill(broker, "q", "still here")


# -- consumers and messages received ----------------------------------------------------------------------


def test_a_consumer_tag_in_use_is_refused(realm: Realm, connection: Connection) -> None:
    """By the client: RabbitMQ would end the whole connection.  The first consumer goes on."""
    channel = connection.channel()
    got: list[Any] = []
    channel.basic_consume("q", "tag", callback=got.append)
    with pytest.raises(ValueError, match=r"consumer tag 'tag' is already in use.*cancel it first"):
        channel.basic_consume("q", "tag", callback=got.append)
    connection.Producer().publish("m", routing_key="q")
    connection.drain_events(timeout=PATIENCE)
    assert [message.payload for message in got] == ["m"]
    channel.basic_cancel("tag")
    channel.basic_consume("q", "tag", callback=got.append)


@pytest.mark.parametrize("decide", ["ack", "reject", "requeue"])
def test_a_message_is_decided_once(realm: Realm, connection: Connection, decide: str) -> None:
    """The second decision raises MessageStateError and is not sent: RabbitMQ would close the channel."""
    channel = connection.channel()
    connection.Producer().publish("m", routing_key="q")
    message = channel.basic_get("q")
    assert message is not None
    message.ack()
    with pytest.raises(MessageStateError, match="already acknowledged with state: ACK"):
        getattr(message, decide)()
    undisturbed(realm, connection)


def test_a_missing_queue_is_not_found(realm: Realm, connection: Connection) -> None:
    """By consumer and by get, each time anew, with its name; the same channel serves what there is."""
    channel = connection.channel()
    for _ in range(2):
        with pytest.raises(NotFound, match="no queue 'noq'"):
            channel.basic_consume("noq")
        with pytest.raises(NotFound, match="no queue 'noq'"):
            channel.basic_get("noq")
    assert channel.basic_get("q") is None
    connection.Producer().publish("still here", routing_key="q")
    assert realm.depths() == {"q": 1}


def test_publishing_to_a_missing_exchange_is_not_found(realm: Realm, connection: Connection) -> None:
    """With its name, for that publish only."""
    producer = connection.Producer()
    for _ in range(2):
        with pytest.raises(NotFound, match="no exchange 'nox'"):
            producer.publish("m", exchange="nox", routing_key="k")
    producer.publish("m", routing_key="q")
    assert realm.depths() == {"q": 1}


def test_a_declared_exchange_of_another_type_is_refused_to_its_producer(realm: Realm, connection: Connection) -> None:
    """The automatic declaration fails as a declaration does, and nothing is published."""
    Exchange("x", "topic")(connection).declare()
    with pytest.raises(PreconditionFailed, match="'type' for exchange 'x'"):
        connection.Producer(exchange=Exchange("x", "direct")).publish("m", routing_key="q")
    undisturbed(realm, connection)


# -- what was closed ------------------------------------------------------------------------------------

ON_CLOSED: dict[str, Callable[[Channel], object]] = {
    "publish": lambda ch: ch.basic_publish(ch.prepare_message("b"), "", "q"),
    "declare": lambda ch: ch.queue_declare("r"),
    "consume": lambda ch: ch.basic_consume("q"),
    "get": lambda ch: ch.basic_get("q"),
    "qos": lambda ch: ch.basic_qos(0, 1, False),
}


@pytest.mark.parametrize("what", ON_CLOSED)
def test_a_closed_channel_says_so(realm: Realm, connection: Connection, what: str) -> None:
    """Recoverable, with the channel's number and where to get another; closing it twice is no error."""
    channel = connection.channel()
    channel.close()
    channel.close()
    with pytest.raises(ConnectionClosed, match=r"channel \d+ was closed; open another") as caught:
        ON_CLOSED[what](channel)
    assert isinstance(caught.value, connection.recoverable_connection_errors)
    undisturbed(realm, connection)


@pytest.mark.parametrize("what", ON_CLOSED)
def test_a_channel_of_a_released_connection_says_so(realm: Realm, what: str) -> None:
    """It does not reconnect behind its owner's back."""
    connection = realm.connect()
    channel = connection.channel()
    connection.release()
    with pytest.raises(ConnectionClosed, match=r"released|closed"):
        ON_CLOSED[what](channel)
    assert not connection.connected


async def test_a_native_broker_out_of_its_block_says_so(realm: Realm) -> None:
    """All of its calls."""
    async with realm.open_broker() as broker:
        await queue(broker, "q")
    calls: list[Callable[[], Any]] = [
        lambda: broker.publish("m", routing_key="q", timeout=5),
        lambda: broker.declare(QueueSpec(name="r")),
        lambda: broker.inspect_queue("q"),
        lambda: broker.subscribe("q").__aenter__(),
    ]
    for call in calls:
        with pytest.raises(ConnectionClosed, match="has been left: open another"):
            await call()
    assert realm.depths() == {"q": 0}


# -- bodies that are not what they claim ------------------------------------------------------------------


async def test_a_body_that_is_not_what_it_claims_harms_only_its_reader(broker: Broker) -> None:
    """DecodeError or ContentDisallowed where the payload is asked for; the message can still be decided."""
    bad: dict[str, tuple[dict[str, Any], type[Exception]]] = {
        "not json": ({"content_type": "application/json"}, DecodeError),
        "pickled": ({"content_type": "application/x-python-serialize"}, ContentDisallowed),
        "not compressed": ({"content_type": "text/plain", "headers": {"compression": "gzip"}}, DecodeError),
        "no such charset": ({"content_type": "application/json", "content_encoding": "klingon"}, DecodeError),
    }
    for body, (properties, _) in bad.items():
        await broker.publish(body.encode(), routing_key="q", **properties)
    async with broker.subscribe("q", accept=["json", "text/plain"]) as messages:
        for message, (_, kind) in zip(await take(messages, len(bad)), bad.values(), strict=True):
            with pytest.raises(kind):
                _ = message.payload
            assert message.body in [body.encode() for body in bad]
            message.reject()
    assert (await broker.inspect_queue("q")).messages == 0
    assert restarted(broker) == []


def test_every_case_has_a_name_of_its_own() -> None:
    """A repeated key in the tables above would hide a case."""
    assert len(set(chain(MESSAGES, DECLARATIONS))) == len(MESSAGES) + len(DECLARATIONS)
