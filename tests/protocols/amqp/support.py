"""Engines brought into the state a test starts from."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amqp import spec

from kombu_actors.protocols.amqp import AMQPEngine, PlainCredentials
from kombu_actors.protocols.amqp.events import ConnectionOpened, Event, MessageDelivered
from kombu_actors.protocols.amqp.methods import request
from tests import support_amqp_server as peer

FRAME_MAX = 131072


def new_engine(**options: Any) -> AMQPEngine:
    """An engine before its greeting."""
    return AMQPEngine(PlainCredentials("ann", "canary-secret"), **options)


def opened_engine(frame_max: int = FRAME_MAX, **options: Any) -> AMQPEngine:
    """An engine with an open connection and nothing to send."""
    engine = new_engine(frame_max=frame_max, **options)
    engine.start()
    received = engine.receive(peer.start() + peer.tune(frame_max=frame_max, heartbeat=0) + peer.open_ok())
    assert [type(event) for event in received] == [ConnectionOpened]
    engine.sender.take()
    return engine


def engine_with_channel(*, consuming: bool = True, confirming: bool = False, **options: Any) -> AMQPEngine:
    """An opened engine with channel 1 open; by default with a consumer ``ctag``."""
    engine = opened_engine(**options)
    assert engine.open_channel("open") == 1
    answers = peer.channel_open_ok(1)
    engine.receive(answers)
    if consuming:
        engine.request(1, request("basic.consume", 0, "q", "ctag", False, False, False, False, {}), "consume")
        engine.receive(peer.method(1, spec.Basic.ConsumeOk, "s", "ctag"))
    if confirming:
        engine.tell(1, request("confirm.select", True))
    engine.sender.take()
    return engine


def sent_frames(engine: AMQPEngine) -> list[peer.ClientFrame]:
    """What the engine wants to send, decoded by py-amqp."""
    frames, rest = peer.parse_client(engine.sender.take())
    assert rest == b""
    return frames


def receive_split(engine: AMQPEngine, data: bytes, cuts: list[int]) -> list[Event]:
    """Feed ``data`` cut at the given places; deliveries of one consumer that follow each other are joined."""
    events: list[Event] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        for event in engine.receive(data[start:end]):
            last = events[-1] if events else None
            if (
                isinstance(event, MessageDelivered)
                and isinstance(last, MessageDelivered)
                and (last.channel, last.consumer_tag) == (event.channel, event.consumer_tag)
            ):
                last.deliveries.extend(event.deliveries)
            else:
                events.append(event)
    return events
