"""Messages to the wire: py-amqp's bytes, validated before any is sent, encoded once."""

from __future__ import annotations

import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp import spec
from amqp.basic_message import Message
from amqp.serialization import dumps
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kombu_actors.protocols.amqp import LocalProtocolError, Preparer
from kombu_actors.protocols.amqp.events import Confirmed
from kombu_actors.protocols.amqp.methods import request
from kombu_actors.protocols.amqp.publishing import CACHE_SIZE, Prepared
from tests import support_amqp_server as peer

from .support import engine_with_channel, sent_frames
from .test_fields import tables


def routes_copies(headers: dict[str, Any]) -> bool:
    """Whether RabbitMQ can read more routing keys there; else it refuses the message (406), as we do."""
    return all(isinstance(headers.get(name, []), list) for name in ("CC", "BCC"))


short = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
properties_of = st.fixed_dictionaries(
    {},
    optional={
        "content_type": short,
        "content_encoding": short,
        "headers": tables.filter(routes_copies),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": short,
        "reply_to": short,
        "expiration": st.integers(0, 10**9).map(str),
        "message_id": short,
        "timestamp": st.integers(0, 2**40),
        "type": short,
        "user_id": short,
        "app_id": short,
        "cluster_id": short,
    },
)


def as_py_amqp_sends(properties: dict[str, Any]) -> bytes:
    """The property bytes of py-amqp's ``Message``, which kombu uses."""
    renamed = dict(properties)
    if "headers" in renamed:
        renamed["application_headers"] = renamed.pop("headers")
    encoded: bytes = Message(**renamed)._serialize_properties()
    return encoded


def prepared(body: bytes = b"x", **properties: Any) -> Prepared:
    return Preparer().prepare(body, exchange="ex", routing_key="key", properties=properties)


@given(properties_of)
@example({"headers": {"CC": ["a", None], "BCC": []}})
@settings(max_examples=200)
def test_properties_are_sent_as_kombu_sends_them(properties: dict[str, Any]) -> None:
    """Byte for byte, the first time and from the cache."""
    preparer = Preparer()
    for _ in range(2):
        header = preparer.prepare(b"abc", exchange="", routing_key="", properties=properties).header
        assert header == struct.pack(">HHQ", 60, 0, 3) + as_py_amqp_sends(properties)


@given(short, short, st.booleans())
def test_the_publish_method_is_sent_as_kombu_sends_it(exchange: str, routing_key: str, mandatory: bool) -> None:
    """Byte for byte."""
    message = Preparer().prepare(b"", exchange=exchange, routing_key=routing_key, properties={}, mandatory=mandatory)
    assert message.method == b"\0\x3c\0\x28" + dumps("Bssbb", (0, exchange, routing_key, mandatory, False))


@given(short, st.tuples(*[st.booleans()] * 4), tables)
def test_declarations_are_sent_as_kombu_sends_them(
    name: str, flags: tuple[bool, ...], arguments: dict[str, Any]
) -> None:
    """queue.declare and exchange.declare, with py-amqp's layouts."""
    queue = request("queue.declare", 0, name, *flags, False, arguments)
    assert queue.payload == b"\0\x32\0\x0a" + dumps("BsbbbbbF", (0, name, *flags, False, arguments))
    exchange = request("exchange.declare", 0, name, "topic", *flags, False, arguments)
    assert exchange.payload == b"\0\x28\0\x0a" + dumps("BssbbbbbF", (0, name, "topic", *flags, False, arguments))


def test_an_empty_header_table_is_sent_and_an_absent_one_is_not() -> None:
    """kombu always sends the empty table; both come from the cache without being mixed up."""
    preparer = Preparer()
    for _ in range(2):
        cases: list[dict[str, Any]] = [{}, {"headers": {}}, {"headers": None}]
        for properties in cases:
            header = preparer.prepare(b"", exchange="", routing_key="", properties=properties).header
            assert header[12:] == as_py_amqp_sends(properties)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("exchange", "x" * 256),
        ("exchange", "\u00e4" * 128),
        ("exchange", None),
        ("routing_key", "k" * 256),
        ("content_type", "t" * 256),
        ("correlation_id", 7),
        ("message_id", "\ud800"),
        ("priority", 256),
        ("priority", -1),
        ("priority", True),
        ("priority", "5"),
        ("priority", 1.0),
        ("delivery_mode", 3),
        ("delivery_mode", 0),
        ("expiration", "1.5"),
        ("expiration", "abc"),
        ("expiration", 60000),
        ("timestamp", -1),
        ("timestamp", 1.5),
        ("headers", {"o": object()}),
        ("headers", {"n": 2**63}),
        ("headers", {"k" * 256: 1}),
        ("headers", {"d": Decimal("1e300")}),
        ("headers", {"t": datetime(1969, 1, 1)}),
        ("headers", {"big": "x" * 131072}),
        ("headers", [("a", 1)]),
        ("headers", {"CC": None}),
        ("headers", {"BCC": "key"}),
    ],
)
def test_a_wrong_argument_is_refused_by_name(argument: str, value: object) -> None:
    """Before a byte is sent, also when an equal-looking value has been sent before."""
    preparer = Preparer()
    fine = {"priority": 1, "delivery_mode": 1}
    preparer.prepare(b"", exchange="", routing_key="", properties=fine)
    preparer.prepare(b"", exchange="", routing_key="", properties={"priority": 1})
    route: dict[str, Any] = {"exchange": "", "routing_key": ""}
    properties: dict[str, Any] = {}
    (route if argument in route else properties)[argument] = value
    with pytest.raises(ValueError, match=argument):
        preparer.prepare(b"", properties=properties, **route)


def test_headers_nested_too_deep_are_refused() -> None:
    """33 levels; a self-containing table never ends."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(ValueError, match="nested more than 32"):
        prepared(headers=loop)


@pytest.mark.parametrize("body", ["text", None, 5, ["x"]])
def test_a_body_must_be_bytes(body: Any) -> None:
    """Serialization is somebody else's work."""
    with pytest.raises(TypeError, match="body must be bytes"):
        prepared(body)


def test_a_body_beyond_the_brokers_limit_is_refused() -> None:
    """RabbitMQ would close the channel after all of it was sent."""
    with pytest.raises(ValueError, match="max_message_size"):
        Preparer(body_max=3).prepare(b"four", exchange="", routing_key="", properties={})


def test_a_caller_may_change_its_objects_after_prepare() -> None:
    """What was prepared is immutable."""
    body, headers = bytearray(b"body"), {"a": 1}
    message = prepared(body, headers=headers)  # type: ignore[arg-type]
    before = bytes(message.header)
    body[0], headers["a"] = 0, 2
    assert (message.body, message.header) == (b"body", before)


def test_what_the_encoder_remembers_is_bounded() -> None:
    """Routes and properties that never repeat don't pile up; unknown names are not kept at all."""
    preparer = Preparer()
    for number in range(2 * CACHE_SIZE + 10):
        preparer.prepare(b"", exchange="", routing_key=f"k{number}", properties={"message_id": str(number)})
    assert 0 < len(preparer._methods) <= CACHE_SIZE
    assert 0 < len(preparer._properties) <= CACHE_SIZE


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 12000])
def test_bodies_are_cut_to_the_agreed_frame_size(size: int) -> None:
    """One prepared message fits connections with different limits."""
    body = bytes(range(256)) * 50
    message = prepared(body[:size], content_type="x")
    for frame_max in (4096, 131072):
        engine = engine_with_channel(frame_max=frame_max)
        engine.publish(1, message)
        method, head, *pieces = sent_frames(engine)
        assert method.arguments == [0, "ex", "key", False, False]
        assert head.payload == message.header
        assert all(0 < len(piece.payload) <= frame_max - 8 for piece in pieces)
        assert b"".join(piece.payload for piece in pieces) == body[:size]
        assert {method.channel, head.channel, *(piece.channel for piece in pieces)} == {1}


def test_headers_beyond_the_agreed_frame_size_are_refused() -> None:
    """The broker granted smaller frames than we asked for: nothing is sent, the error says what to do."""
    engine = engine_with_channel(frame_max=4096)
    with pytest.raises(ValueError, match="put what is large into the body"):
        engine.publish(1, prepared(headers={"big": "x" * 5000}))
    with pytest.raises(ValueError, match="doesn't fit a frame"):
        engine.request(1, request("queue.declare", 0, "q", *[False] * 5, {"x": "y" * 5000}), "t")
    assert engine.sender.take() == b""
    assert not engine.awaiting


def test_confirms_are_passed_on_as_they_come() -> None:
    """Who publishes counts what was sent, and judges them."""
    engine = engine_with_channel(confirming=True)
    acks = peer.method(1, spec.Basic.Ack, "Lb", 2, True) + peer.method(1, spec.Basic.Ack, "Lb", 0, True)
    nack = peer.method(1, spec.Basic.Nack, "Lbb", 2**64 - 1, False, False)
    assert engine.receive(acks + nack) == [
        Confirmed(1, 2, True, True),
        Confirmed(1, 0, True, True),
        Confirmed(1, 2**64 - 1, False, False),
    ]


def test_acknowledgements_are_sent_as_py_amqp_sends_them() -> None:
    """ack, nack, reject with all their bits."""
    engine = engine_with_channel()
    engine.ack(1, 5)
    engine.ack(1, 6, multiple=True)
    engine.nack(1, 7, multiple=True, requeue=False)
    engine.nack(1, 8)
    engine.reject(1, 2**64 - 1, requeue=True)
    sent = [(frame.signature, frame.arguments) for frame in sent_frames(engine)]
    assert sent == [
        (spec.Basic.Ack, [5, False]),
        (spec.Basic.Ack, [6, True]),
        (spec.Basic.Nack, [7, True, False]),
        (spec.Basic.Nack, [8, False, True]),
        (spec.Basic.Reject, [2**64 - 1, True]),
    ]


def test_nothing_is_published_on_a_channel_that_is_not_open() -> None:
    """Unknown, opening, closing: the error says which."""
    engine = engine_with_channel()
    with pytest.raises(LocalProtocolError, match="channel 9 is not open"):
        engine.publish(9, prepared())
    engine.open_channel("t")
    with pytest.raises(LocalProtocolError, match="channel 2 is opening"):
        engine.publish(2, prepared())
    engine.close_channel(1)
    with pytest.raises(LocalProtocolError, match="channel 1 is closing"):
        engine.ack(1, 1)
