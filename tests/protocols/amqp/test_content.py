"""Messages from the wire: however they are cut, the same; however they are damaged, one kind of error."""

from __future__ import annotations

import struct

import pytest
from amqp import spec
from hypothesis import given, settings
from hypothesis import strategies as st

from kombu_actors._values.model import Delivery, Returned
from kombu_actors.protocols.amqp import PeerProtocolError, Preparer
from kombu_actors.protocols.amqp.events import (
    ConsumerCancelled,
    Event,
    Got,
    MessageDelivered,
    MessageReturned,
    Oversized,
    Replied,
)
from kombu_actors.protocols.amqp.methods import request
from kombu_actors.protocols.amqp.properties import UndecodableProperties
from tests import support_amqp_server as peer

from .support import engine_with_channel, opened_engine, receive_split, sent_frames

KOMBU_LIKE = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "application_headers": {},
    "delivery_mode": 2,
    "priority": 0,
}


def recorded_traffic() -> bytes:
    """A bit of everything that a consuming, publishing channel hears."""
    return b"".join([
        peer.delivery(1, 1, b"one", properties=KOMBU_LIKE),
        peer.delivery(1, 2, b"", properties=KOMBU_LIKE, redelivered=True),
        peer.frame(8, 0, b""),
        peer.delivery(1, 3, b"three" * 50, properties=KOMBU_LIKE, piece=64),
        peer.delivery(1, 4, b"four", consumer="other", exchange="", routing_key="q"),
        peer.method(1, spec.Basic.Ack, "Lb", 1, False),
        peer.method(1, spec.Basic.Return, "Bsss", 312, "NO_ROUTE", "ex", "nowhere"),
        peer.content(1, b"returned", {"message_id": "m-1", "application_headers": {"a": [1, {"b": None}]}}),
        peer.method(1, spec.Basic.Nack, "Lbb", 3, True, False),
        peer.method(1, spec.Queue.DeclareOk, "sll", "q", 3, 1),
        peer.method(1, spec.Basic.GetOk, "Lbssl", 5, False, "ex", "key", 7),
        peer.content(1, b"got", {"timestamp": 1700000000, "expiration": "60000"}),
        peer.method(1, spec.Basic.Cancel, "sb", "ctag", True),
        peer.method(0, spec.Connection.Blocked, "s", "low on memory"),
        peer.channel_close(1, 404, "NOT_FOUND - no queue", (50, 10)),
        peer.connection_close(320, "CONNECTION_FORCED"),
    ])  # fmt: skip


TRAFFIC = recorded_traffic()


def hear(cuts: list[int], traffic: bytes = TRAFFIC) -> tuple[list[Event], bytes]:
    engine = engine_with_channel(confirming=True)
    for _ in range(3):
        engine.publish(1, _prepared)
    engine.request(1, request("queue.declare", 0, "q", False, True, False, False, False, {}), "declare")
    engine.request(1, request("basic.get", 0, "q", False), "get")
    engine.sender.take()
    events = receive_split(engine, traffic, cuts)
    return events, engine.sender.take()


_prepared = Preparer().prepare(b"x", exchange="", routing_key="q", properties={})
WHOLE = hear([])


def test_a_conversation_is_reported_in_wire_order() -> None:
    """What the parts of the recording mean, once, by hand."""
    events, answers = WHOLE
    first, other = events[0], events[1]
    assert isinstance(first, MessageDelivered)
    assert [delivery.delivery_tag for delivery in first.deliveries] == [1, 2, 3]
    properties = {**KOMBU_LIKE, "headers": {}}
    del properties["application_headers"]
    assert first.deliveries[1] == Delivery("ctag", 2, True, "ex", "key", properties, b"")
    assert isinstance(other, MessageDelivered)
    assert other.deliveries == [Delivery("other", 4, False, "", "q", {}, b"four")]
    assert tuple(events[2]) == (1, 1, False, True)
    headers = {"message_id": "m-1", "headers": {"a": [1, {"b": None}]}}
    assert events[3] == MessageReturned(1, Returned(312, "NO_ROUTE", "ex", "nowhere", headers, b"returned"))
    assert tuple(events[4]) == (1, 3, True, False)
    assert tuple(events[5]) == (1, "declare", "queue.declare-ok", ("q", 3, 1))
    stamped = {"timestamp": 1700000000, "expiration": "60000"}
    assert events[6] == Got(1, "get", Delivery("", 5, False, "ex", "key", stamped, b"got"), 7)
    assert tuple(events[7]) == (1, "ctag")
    assert tuple(events[8]) == ("low on memory",)
    assert tuple(events[9]) == (1, 404, "NOT_FOUND - no queue", (50, 10), ())
    assert tuple(events[10]) == (320, "CONNECTION_FORCED", (0, 0), ())
    assert len(events) == 11
    signatures = [sent.signature for sent in peer.parse_client(answers)[0]]
    assert signatures == [spec.Channel.CloseOk, spec.Connection.CloseOk]


def test_bytes_that_drip_in_mean_the_same() -> None:
    """Byte by byte."""
    assert hear(list(range(len(TRAFFIC)))) == WHOLE


@given(st.lists(st.integers(0, len(TRAFFIC)), max_size=12))
@settings(max_examples=150)
def test_where_the_stream_is_cut_does_not_matter(cuts: list[int]) -> None:
    """The straight path for whole deliveries and the path frame by frame agree."""
    assert hear(cuts) == WHOLE


@given(
    st.lists(st.tuples(st.integers(0, len(TRAFFIC) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.lists(st.integers(0, len(TRAFFIC)), max_size=4),
)
@settings(max_examples=600)
def test_damaged_traffic_is_understood_or_a_protocol_error(damage: list[tuple[int, int]], cuts: list[int]) -> None:
    """Nothing else ever escapes, whatever byte is hit: length, type, tag or text."""
    data = bytearray(TRAFFIC)
    for place, byte in damage:
        data[place] = byte
    try:
        hear(cuts, bytes(data))
    except PeerProtocolError:
        return


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_noise_after_the_handshake_is_a_protocol_error_or_incomplete(noise: bytes) -> None:
    """Arbitrary bytes on an open connection."""
    engine = engine_with_channel()
    try:
        engine.receive(noise)
    except PeerProtocolError:
        return


def header(size: int, *, class_id: int = 60, properties: bytes = b"\0\0") -> bytes:
    return peer.frame(2, 1, struct.pack(">HHQ", class_id, 0, size) + properties)


DELIVER = peer.method(1, spec.Basic.Deliver, "sLbss", "ctag", 1, False, "", "q")


@pytest.mark.parametrize(
    ("traffic", "code", "says"),
    [
        (peer.frame(0, 1, b""), 501, "unknown frame type 0"),
        (peer.frame(4, 1, b""), 501, "unknown frame type 4"),
        (peer.frame(9, 1, b""), 501, "unknown frame type 9"),
        (peer.frame(1, 1, b"")[:-1] + b"\x00", 501, "instead of 0xce"),
        (b"\x03\x00\x01\xff\xff\xff\xff\x00", 501, "4294967295 bytes"),
        (b"\x01\x00\x01" + struct.pack(">I", 131065) + b"\0", 501, "131065 bytes, where 131064"),
        (DELIVER + b"\x02\x00\x01\x7f\xff\xff\xff\x00", 501, "2147483647 bytes"),
        (peer.frame(1, 1, b"\0\x3c"), 502, "without class and method"),
        (peer.method(1, (60, 999)), 503, "unknown method 60.999"),
        (peer.method(1, spec.Basic.Publish, "Bssbb", 0, "", "q", False, False), 503, "unknown method 60.40"),
        (peer.method(7, spec.Queue.BindOk), 504, "channel 7, which is not open"),
        (peer.delivery(7, 1, b"x"), 504, "channel 7, which is not open"),
        (peer.channel_open_ok(1), 504, "came while channel 1 was open"),
        (peer.method(0, spec.Queue.BindOk), 503, "on channel 0"),
        (peer.frame(2, 0, b""), 503, "content on channel 0"),
        (peer.open_ok(), 503, "came while the connection was open"),
        (peer.method(1, spec.Connection.Blocked, "s", "x"), 503, "connection.blocked on channel 1"),
        (peer.frame(8, 5, b""), 501, "heartbeat"),
        (peer.frame(8, 0, b"x"), 501, "heartbeat"),
        (header(3), 505, "where a method is due"),
        (peer.frame(3, 1, b"x"), 505, "where none is due"),
        (DELIVER + peer.frame(3, 1, b"x"), 505, "where none is due"),
        (DELIVER + header(3) + header(3), 505, "where a method is due"),
        (DELIVER + header(3, class_id=50), 501, "class 50"),
        (DELIVER + header(3, class_id=50) + peer.frame(3, 1, b"xyz"), 501, "class 50"),
        (DELIVER + peer.frame(2, 1, b"\0\x3c"), 502, "shorter than"),
        (DELIVER + header(3) + peer.frame(3, 1, b"xxxx"), 501, "longer than its header"),
        (DELIVER + header(0) + peer.frame(3, 1, b"x"), 505, "where none is due"),
        (peer.method(1, spec.Queue.DeclareOk, "sll", "q", 0, 0), 503, "no reply is due"),
        (peer.method(1, spec.Basic.CancelOk, "s", "ctag"), 503, "no reply is due"),
        (peer.method(1, spec.Basic.GetOk, "Lbssl", 1, False, "", "q", 0), 503, "nothing was asked for"),
        (peer.frame(1, 1, struct.pack(">HH", *spec.Queue.BindOk) + b"x"), 502, "1 bytes too many"),
        (peer.method(1, spec.Channel.CloseOk), 504, "channel.close-ok came while channel 1 was open"),
    ],
)
def test_an_illegal_frame_closes_the_connection_and_says_why(traffic: bytes, code: int, says: str) -> None:
    """The matrix of bad input: each ends in one error and one connection.close with the right code."""
    engine = engine_with_channel()
    with pytest.raises(PeerProtocolError, match=says) as caught:
        engine.receive(traffic)
    assert caught.value.code == code
    (close,) = sent_frames(engine)
    assert close.signature == spec.Connection.Close
    assert close.arguments[0] == code
    assert engine.receive(peer.delivery(1, 1, b"more")) == []


def test_a_frame_too_large_is_refused_from_its_head() -> None:
    """Seven bytes and one more are enough: nobody waits for, or keeps, what is too much."""
    engine = engine_with_channel(frame_max=4096)
    with pytest.raises(PeerProtocolError, match="4088 is the most"):
        engine.receive(b"\x03\x00\x01" + struct.pack(">I", 4089) + b"x")


def test_of_a_body_too_large_nothing_is_kept_and_the_channel_goes_on() -> None:
    """body_max is judged at the header; the frames are discarded as they come, and the next message is taken."""
    engine = engine_with_channel(body_max=10)
    assert engine.receive(DELIVER + header(11)) == [
        Oversized(1, None, "basic.deliver", ("ctag", 1, False, "", "q"), 11)
    ]
    for piece in (b"x" * 5, b"", b"y" * 5):
        assert engine.receive(peer.frame(3, 1, piece)) == []
        content = engine._channels.by_number[1].content
        assert content is not None
        assert content.pieces == []
    (delivered,) = engine.receive(peer.frame(3, 1, b"z") + peer.delivery(1, 2, b"next"))
    assert isinstance(delivered, MessageDelivered)
    assert [delivery.body for delivery in delivered.deliveries] == [b"next"]
    assert sent_frames(engine) == []


@pytest.mark.parametrize("size", [11, 2**40, 2**63, 2**64 - 1])
def test_a_body_too_large_is_told_whatever_its_header_says_and_can_be_given_up(size: int) -> None:
    """Nothing is allocated for it; a method ends it like any other."""
    engine = engine_with_channel(body_max=10)
    (oversized,) = engine.receive(DELIVER + header(size) + peer.frame(3, 1, b"x" * 10))
    assert isinstance(oversized, Oversized)
    assert oversized.size == size
    (delivered,) = engine.receive(peer.delivery(1, 2, b"next"))
    assert isinstance(delivered, MessageDelivered)


def test_an_answer_too_large_is_an_answer() -> None:
    """basic.get's waiter learns of it from the header; requests after it get their own replies."""
    engine = engine_with_channel(body_max=10)
    engine.request(1, request("basic.get", 0, "q", False), "get")
    engine.request(1, request("queue.purge", 0, "q", False), "purge")
    got = peer.method(1, spec.Basic.GetOk, "Lbssl", 7, False, "ex", "key", 3)
    assert engine.receive(got + header(11)) == [Oversized(1, "get", "basic.get-ok", (7, False, "ex", "key", 3), 11)]
    (purged,) = engine.receive(peer.frame(3, 1, b"x" * 11) + peer.method(1, spec.Queue.PurgeOk, "l", 2))
    assert isinstance(purged, Replied)
    assert purged.token == "purge"


def test_a_small_body_is_bounded_on_the_straight_path_too() -> None:
    """body_max below the frame size."""
    engine = engine_with_channel(body_max=3)
    events = engine.receive(peer.delivery(1, 1, b"abc") + peer.delivery(1, 2, b"abcd") + peer.delivery(1, 3, b"abc"))
    assert [type(event) for event in events] == [MessageDelivered, Oversized, MessageDelivered]


def test_a_method_ends_unfinished_content() -> None:
    """Spec 4.2.6: a sender may give up a message by sending a method; the rest of it is then illegal."""
    engine = engine_with_channel()
    events = engine.receive(DELIVER + header(10) + peer.frame(3, 1, b"half") + peer.delivery(1, 2, b"next"))
    assert [delivery.body for event in events for delivery in event.deliveries] == [b"next"]  # type: ignore[union-attr]
    (cancelled,) = engine.receive(DELIVER + header(10) + peer.method(1, spec.Basic.Cancel, "sb", "other", True))
    assert cancelled == ConsumerCancelled(1, "other")
    with pytest.raises(PeerProtocolError, match="where none is due"):
        engine.receive(peer.frame(3, 1, b"rest"))


def test_a_reply_with_content_is_not_given_up() -> None:
    """The waiter of basic.get would wait for ever."""
    engine = engine_with_channel()
    engine.request(1, request("basic.get", 0, "q", False), "get")
    got = peer.method(1, spec.Basic.GetOk, "Lbssl", 1, False, "", "q", 0)
    with pytest.raises(PeerProtocolError, match=r"inside the message of basic\.get-ok"):
        engine.receive(got + header(10) + peer.method(1, spec.Basic.Cancel, "sb", "ctag", True))


@pytest.mark.parametrize(
    "properties",
    [
        b"\x20\x00" + b"\xff\xff\xff\xff",
        b"\x20\x00" + struct.pack(">I", 7) + b"\x01kZabcd",
        b"\x00\x01",
        b"\x80\x00\x09short",
        b"\x08\x00",
        b"\x00\x00trailing",
        b"",
        b"\x20\x00"
        + struct.pack(">I", 7 * 40)
        + b"".join(b"\x01kF" + struct.pack(">I", 7 * n) for n in range(39, -1, -1)),
    ],
)
def test_a_message_with_undecodable_properties_can_still_be_rejected(properties: bytes) -> None:
    """It is delivered, marked: ending the connection would meet the same message again, for ever."""
    engine = engine_with_channel()
    straight = engine.receive(DELIVER + header(1, properties=properties) + peer.frame(3, 1, b"x"))
    engine = engine_with_channel()
    dripped = receive_split(
        engine, DELIVER + header(1, properties=properties) + peer.frame(3, 1, b"x"), list(range(200))
    )
    for events in (straight, dripped):
        (event,) = events
        assert isinstance(event, MessageDelivered)
        (delivery,) = event.deliveries
        assert isinstance(delivery.properties, UndecodableProperties)
        assert delivery.properties.reason
    engine.reject(1, 1)
    assert sent_frames(engine)[-1].arguments == [1, False]


def test_consecutive_deliveries_of_one_consumer_are_one_batch() -> None:
    """One event per run, across frames that mean nothing to the consumer."""
    engine = engine_with_channel()
    run = [peer.delivery(1, tag, b"x") for tag in range(1, 101)]
    (event,) = engine.receive(b"".join(run) + peer.frame(8, 0, b""))
    assert isinstance(event, MessageDelivered)
    assert [delivery.delivery_tag for delivery in event.deliveries] == list(range(1, 101))
    mixed = peer.delivery(1, 101, b"x") + peer.delivery(1, 102, b"x", consumer="b") + peer.delivery(1, 103, b"x")
    assert [len(event.deliveries) for event in engine.receive(mixed)] == [1, 1, 1]  # type: ignore[union-attr]


def test_a_large_body_that_drips_in_costs_linear_time() -> None:
    """A frame in many pieces is joined once, not per piece."""
    engine = opened_engine()
    engine.open_channel("t")
    engine.receive(peer.channel_open_ok(1))
    body = bytes(131000)
    data = peer.delivery(1, 1, body)
    joined: list[Event] = []
    for at in range(0, len(data), 16):
        joined += engine.receive(data[at : at + 16])
    assert len(engine._buffer.kept) == 0
    (event,) = joined
    assert isinstance(event, MessageDelivered)
    assert event.deliveries[0].body == body
