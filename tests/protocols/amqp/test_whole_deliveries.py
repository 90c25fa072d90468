"""Deliveries that are looked at before they are received: by whoever takes nothing else."""

from __future__ import annotations

import pytest
from amqp import spec

from kombu_actors.protocols.amqp import AMQPEngine
from kombu_actors.protocols.amqp.events import MessageDelivered
from kombu_actors.protocols.amqp.methods import request
from tests import support_amqp_server as peer

from .support import engine_with_channel

ONE, TWO = peer.delivery(1, 1, b"one"), peer.delivery(1, 2, b"two")
HEARTBEAT = peer.frame(8, 0, b"")
CANCEL = peer.method(1, spec.Basic.Cancel, "sb", "ctag", True)
PIECES = peer.delivery(1, 2, b"in pieces", piece=3)


@pytest.mark.parametrize("rest", [b"", TWO[:20], TWO[:-1], HEARTBEAT, CANCEL, PIECES, b"\x01" * 30])
def test_those_at_the_beginning_are_taken_and_no_byte_more(rest: bytes) -> None:
    """What follows them is somebody else's to receive."""
    engine = engine_with_channel()
    happened, size = engine.whole_deliveries(ONE + rest)
    assert size == len(ONE)
    (event,) = happened
    assert isinstance(event, MessageDelivered)
    assert [delivery.body for delivery in event.deliveries] == [b"one"]


def in_a_frame(engine: AMQPEngine) -> None:
    engine.receive(HEARTBEAT[:3])


def in_a_message(engine: AMQPEngine) -> None:
    engine.receive(ONE[: len(ONE) - 11])


def in_a_message_between_frames(engine: AMQPEngine) -> None:
    engine.receive(peer.method(1, spec.Basic.Deliver, "sLbss", "ctag", 1, False, "", "q"))


def asking(engine: AMQPEngine) -> None:
    engine.request(1, request("basic.cancel", "ctag", False), "cancel")


def leaving(engine: AMQPEngine) -> None:
    engine.close()


def leaving_the_channel(engine: AMQPEngine) -> None:
    engine.close_channel(1)


@pytest.mark.parametrize(
    "meanwhile", [in_a_frame, in_a_message, in_a_message_between_frames, asking, leaving, leaving_the_channel]
)
def test_none_is_taken_in_the_middle_of_something(meanwhile: object) -> None:
    """Then all goes by the frame, and by who awaits the answer."""
    engine = engine_with_channel()
    assert callable(meanwhile)
    meanwhile(engine)
    assert engine.whole_deliveries(TWO) == ([], 0)


def test_looking_changes_nothing() -> None:
    """The same bytes can be received afterwards."""
    engine = engine_with_channel()
    first, _ = engine.whole_deliveries(ONE + TWO)
    assert engine.receive(ONE + TWO) == first
