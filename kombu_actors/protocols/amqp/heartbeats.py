"""When to beat and when to give up on the peer: a decision without a clock of its own.

Spec: AMQP 0-9-1, 4.2.7.  Any byte counts as a sign of life, in both directions.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from ..._frozen import Record

__all__ = ["Pulse", "Verdict", "pulse"]

MISSED: Final = 2
"""Intervals of silence that mean death (RabbitMQ's own number)."""


class Verdict(Enum):
    """What the heartbeat role has to do now."""

    WAIT = "wait"
    BEAT = "beat"
    DEAD = "dead"


class Pulse(Record):
    """A verdict, and the time at which to ask again."""

    verdict: Verdict
    until: float


def pulse(now: float, *, interval: float, sent: float, received: float, stalled: float = 0.0) -> Pulse:
    """Judge a connection with ``interval`` seconds between heartbeats.

    ``sent`` and ``received`` are the times of the last bytes each way; ``stalled`` is for how long
    since ``received`` this process did not get to look, which is no silence of the peer's.
    """
    dead_at = received + stalled + MISSED * interval
    if now >= dead_at:
        return Pulse(Verdict.DEAD, now)
    beat_at = sent + interval / 2
    if now >= beat_at:
        return Pulse(Verdict.BEAT, min(dead_at, now + interval / 2))
    return Pulse(Verdict.WAIT, min(dead_at, beat_at))
