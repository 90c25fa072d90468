"""Channels: numbers, the order of replies, and two ways of closing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest
from amqp import spec

from kombu_actors.errors import ChannelLimitExceeded
from kombu_actors.protocols.amqp import LocalProtocolError, PeerProtocolError
from kombu_actors.protocols.amqp.events import ChannelClosed, ChannelClosedByPeer, ChannelOpened, FlowChanged, Replied
from kombu_actors.protocols.amqp.methods import request
from kombu_actors.protocols.amqp.states import CHANNEL, CONNECTION, ChannelState, ConnectionState
from tests import support_amqp_server as peer

from .support import engine_with_channel, opened_engine, sent_frames


def test_the_lowest_free_number_is_used_and_only_after_close_ok() -> None:
    """A number whose close is under way still belongs to the old channel."""
    engine = opened_engine()
    assert [engine.open_channel(n) for n in (1, 2, 3)] == [1, 2, 3]
    assert engine.receive(peer.channel_open_ok(1) + peer.channel_open_ok(2))[1] == ChannelOpened(2, 2)
    engine.receive(peer.channel_open_ok(3))
    engine.close_channel(2)
    engine.close_channel(1)
    assert engine.open_channel(4) == 4
    assert engine.receive(peer.method(2, spec.Channel.CloseOk)) == [ChannelClosed(2)]
    engine.receive(peer.method(1, spec.Channel.CloseOk))
    assert [engine.open_channel(n) for n in (5, 6, 7)] == [1, 2, 5]


def test_the_brokers_channel_max_is_kept() -> None:
    """The error says that the limit is there and what can be done; the last number is kept, and its number only."""
    engine = opened_engine(channel_max=3)
    assert [engine.open_channel("a"), engine.open_channel("b")] == [1, 2]
    with pytest.raises(ChannelLimitExceeded, match="all 3 channels"):
        engine.open_channel("c")
    assert engine.open_channel("kept", kept=True) == 3
    with pytest.raises(ChannelLimitExceeded, match="all 3 channels"):
        engine.open_channel("kept", kept=True)
    engine.receive(peer.channel_open_ok(1) + peer.channel_open_ok(2) + peer.channel_open_ok(3))
    engine.receive(peer.channel_close(3, 404, "gone") + peer.channel_close(1, 404, "gone"))
    assert engine.open_channel("a") == 1
    with pytest.raises(ChannelLimitExceeded):
        engine.open_channel("c")
    assert engine.open_channel("kept", kept=True) == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("frame_max", value) for value in (4095, -1, 2**32, "8192", True)],
        *[("channel_max", value) for value in (1, 65536, None)],
    ],
)
def test_limits_that_can_not_be_agreed_on_are_refused_before_there_is_a_connection(option: str, value: Any) -> None:
    """A ``ValueError`` that says what may be asked for."""
    with pytest.raises(ValueError, match=f"{option} must be a number of .* from"):
        opened_engine(**{option: value})


def test_replies_are_matched_with_requests_in_order() -> None:
    """Each reply carries the token of the request that it answers."""
    engine = engine_with_channel(consuming=False)
    engine.request(1, request("basic.qos", 0, 10, False), "qos")
    engine.request(1, request("queue.purge", 0, "q", False), "purge")
    engine.request(1, request("basic.get", 0, "q", False), "get")
    events = engine.receive(
        peer.method(1, spec.Basic.QosOk)
        + peer.method(1, spec.Queue.PurgeOk, "l", 3)
        + peer.method(1, spec.Basic.GetEmpty, "s", "")
    )
    assert events == [
        Replied(1, "qos", "basic.qos-ok", ()),
        Replied(1, "purge", "queue.purge-ok", (3,)),
        Replied(1, "get", "basic.get-empty", ("",)),
    ]


def test_a_reply_out_of_order_is_never_given_to_a_stranger() -> None:
    """The wrong waiter would take it for its own."""
    engine = engine_with_channel(consuming=False)
    engine.request(1, request("basic.qos", 0, 10, False), "qos")
    engine.request(1, request("queue.purge", 0, "q", False), "purge")
    with pytest.raises(PeerProtocolError, match=r"queue.purge-ok on channel 1, where basic.qos-ok is due"):
        engine.receive(peer.method(1, spec.Queue.PurgeOk, "l", 3))


def test_a_subscription_may_be_granted_after_later_requests_have_been_answered() -> None:
    """RabbitMQ's consume-ok comes by way of the queue; among themselves subscriptions keep their order."""
    engine = engine_with_channel(consuming=False)
    engine.request(1, request("basic.consume", 0, "a", "one", False, False, False, False, {}), "one")
    engine.request(1, request("channel.flow", True), "flow")
    engine.request(1, request("basic.consume", 0, "b", "two", False, False, False, False, {}), "two")
    engine.request(1, request("basic.get", 0, "q", False), "get")
    events = engine.receive(
        peer.method(1, spec.Channel.FlowOk, "b", True)
        + peer.method(1, spec.Basic.GetEmpty, "s", "")
        + peer.method(1, spec.Basic.ConsumeOk, "s", "one")
        + peer.method(1, spec.Basic.ConsumeOk, "s", "two")
    )
    assert [event.token for event in events if isinstance(event, Replied)] == ["flow", "get", "one", "two"]


def test_a_channel_that_the_broker_closes_is_answered_and_free() -> None:
    """Code, text and method are the broker's; who waited is named; siblings live on."""
    engine = engine_with_channel(consuming=False)
    engine.open_channel("two")
    engine.receive(peer.channel_open_ok(2))
    engine.request(1, request("queue.purge", 0, "nope", False), "purge")
    engine.request(1, request("basic.qos", 0, 1, False), "qos")
    engine.sender.take()
    events = engine.receive(peer.channel_close(1, 404, "NOT_FOUND", spec.Queue.Purge))
    assert events == [ChannelClosedByPeer(1, 404, "NOT_FOUND", (50, 30), ("purge", "qos"))]
    assert [(sent.channel, sent.signature) for sent in sent_frames(engine)] == [(1, spec.Channel.CloseOk)]
    engine.request(2, request("basic.qos", 0, 1, False), "fine")
    assert engine.open_channel("again") == 1


def test_a_channel_refused_while_opening_is_free() -> None:
    """channel.close instead of open-ok."""
    engine = opened_engine()
    engine.open_channel("t")
    events = engine.receive(peer.channel_close(1, 530, "no more"))
    assert events == [ChannelClosedByPeer(1, 530, "no more", (0, 0), ("t",))]
    assert engine.open_channel("u") == 1


def test_after_our_close_all_but_close_and_close_ok_is_discarded() -> None:
    """Deliveries, replies and half a message that crossed our close on the wire."""
    engine = engine_with_channel()
    engine.request(1, request("queue.purge", 0, "q", False), "purge")
    assert engine.close_channel(1) == ("purge",)
    engine.sender.take()
    crossing = peer.delivery(1, 1, b"x") + peer.method(1, spec.Queue.PurgeOk, "l", 3)
    crossing += peer.method(1, spec.Basic.Deliver, "sLbss", "ctag", 2, False, "", "q")
    assert engine.receive(crossing) == []
    with pytest.raises(LocalProtocolError, match="channel 1 is closing"):
        engine.close_channel(1)
    assert engine.receive(peer.method(1, spec.Channel.CloseOk)) == [ChannelClosed(1)]


def test_both_sides_may_close_a_channel_at_once() -> None:
    """Theirs is answered, ours is waited for: only then is the number free."""
    engine = engine_with_channel()
    engine.close_channel(1)
    engine.sender.take()
    assert engine.receive(peer.channel_close(1, 406, "double ack")) == []
    assert [sent.signature for sent in sent_frames(engine)] == [spec.Channel.CloseOk]
    assert engine.open_channel("x") == 2
    assert engine.receive(peer.method(1, spec.Channel.CloseOk)) == [ChannelClosed(1)]


def test_a_channel_may_be_closed_while_it_opens() -> None:
    """A cancelled open: open-ok comes late and means nothing."""
    engine = opened_engine()
    engine.open_channel("t")
    assert engine.close_channel(1) == ("t",)
    late = peer.channel_open_ok(1) + peer.method(1, spec.Channel.CloseOk)
    assert engine.receive(late) == [ChannelClosed(1)]


def test_flow_and_polite_cancel_are_answered() -> None:
    """The broker waits for flow-ok and cancel-ok unless it says that it doesn't."""
    engine = engine_with_channel()
    events = engine.receive(
        peer.method(1, spec.Channel.Flow, "b", False) + peer.method(1, spec.Basic.Cancel, "sb", b"\xff" * 200, False)
    )
    assert events[0] == FlowChanged(1, False)
    flow_ok, cancel_ok = peer.parse_client(engine.sender.take()[:20])[0], events[1]
    assert flow_ok[0].signature == spec.Channel.FlowOk
    assert cancel_ok.consumer_tag.encode("utf-8", "surrogateescape") == b"\xff" * 200  # type: ignore[union-attr]


def test_a_dead_connection_names_every_request_without_reply() -> None:
    """By channel, oldest first; nobody is left waiting."""
    engine = engine_with_channel(consuming=False)
    engine.open_channel("two")
    engine.request(1, request("basic.qos", 0, 1, False), "a")
    engine.request(1, request("queue.purge", 0, "q", False), "b")
    engine.receive(peer.connection_close(320, "CONNECTION_FORCED"))
    assert engine.abandon() == ("a", "b", "two")
    assert engine.abandon() == ()


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("queue.declare", (0, "q" * 256, *[False] * 5, {}), "at most 255 bytes"),
        ("queue.declare", (0, None, *[False] * 5, {}), "takes a str"),
        ("queue.declare", (0, "q", *[False] * 5, {"a": object()}), "arguments"),
        ("queue.declare", (0, "q", *[False] * 5, {"a": 2**64}), "arguments"),
        ("basic.qos", (0, 65536, False), "0 to 65535"),
        ("basic.qos", (-1, 1, False), "0 to 4294967295"),
        ("queue.bind", (0, "q", "ex", "\ud800", False, {}), "can't be encoded"),
    ],
)
def test_a_request_that_cannot_be_encoded_is_refused(name: str, arguments: tuple[object, ...], says: str) -> None:
    """RabbitMQ would close the whole connection over it."""
    with pytest.raises(ValueError, match=says):
        request(name, *arguments)


def test_a_name_that_the_broker_gave_can_be_given_back() -> None:
    """Also one that is no UTF-8."""
    engine = engine_with_channel(consuming=False)
    engine.request(1, request("queue.declare", 0, "", *[False] * 5, {}), "t")
    (reply,) = engine.receive(peer.method(1, spec.Queue.DeclareOk, "sll", b"caf\xe9", 0, 0))
    assert isinstance(reply, Replied)
    assert b"\x04caf\xe9" in request("queue.purge", 0, reply.arguments[0], False).payload


def test_every_state_can_end() -> None:
    """From each state of both tables the end is reachable: no connection or channel is stuck by design."""
    machines: list[tuple[Mapping[Any, Enum], Enum, Enum]] = [
        (CONNECTION, ConnectionState.IDLE, ConnectionState.CLOSED),
        (CHANNEL, ChannelState.OPENING, ChannelState.FREE),
    ]
    for table, start, end in machines:
        following: dict[Enum, set[Enum]] = {}
        for (state, _), after in table.items():
            following.setdefault(state, set()).add(after)
        reached: set[Enum] = {start}
        frontier: set[Enum] = {start}
        while frontier:
            frontier = set().union(*(following.get(state, set()) for state in frontier)) - reached
            reached |= frontier
        assert end in reached
        unended: set[Enum] = {end, ConnectionState.IDLE, ConnectionState.AWAITING_START}
        for state in reached - unended:
            seen: set[Enum] = {state}
            frontier = {state}
            while frontier:
                frontier = set().union(*(following.get(each, set()) for each in frontier)) - seen
                seen |= frontier
            assert end in seen, state
