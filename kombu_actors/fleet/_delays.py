"""How long a message waits, and where: one exchange and one queue for each delay, the same on every transport.

A message that is to wait is published to the delay's topic exchange with the name of its home queue as routing key.
All of them end up in the delay's one queue, whose time to live is the delay; what expires there is dead-lettered
through the default exchange by the routing key that it came with, which is its home queue's name.  So nothing is
declared on the queues of users, and since all messages of one queue wait equally long, none waits behind another.
"""

from __future__ import annotations

import math

import attrs

from ..broker import BindingKind, BindingSpec, ExchangeSpec, QueueSpec
from .policy import DELAY_MAX, check_delay

__all__ = ["Delay", "delay_near", "delay_of"]

PREFIX = "ka.delay."
"""How the names of their exchanges and queues begin."""
DIGITS = 100
"""Arbitrary delays are kept to two digits: that is within 5 %, and 90 queues for each power of ten at most."""


@attrs.frozen
class Delay:
    """One delay, and what has to be declared for it."""

    milliseconds: int
    place: int = 0
    """Above 0 it has another name, and so is on another node of a cluster, when that of the one before is away."""

    @property
    def seconds(self) -> float:
        """How long a message waits."""
        return self.milliseconds / 1000

    @property
    def name(self) -> str:
        """Of its exchange and of its queue."""
        return f"{PREFIX}{self.milliseconds}" + (f".{self.place}" if self.place else "")

    @property
    def elsewhere(self) -> Delay:
        """The same delay in its next place."""
        return Delay(self.milliseconds, self.place + 1)

    @property
    def exchange(self) -> ExchangeSpec:
        """What is published to.  Of type topic: through a fanout, Redis' Pub/Sub would keep nothing."""
        return ExchangeSpec(name=self.name, type="topic")

    @property
    def queue(self) -> QueueSpec:
        """Where messages wait.  It never expires: publishing to a queue doesn't count as its use, and what waits in it
        would be lost.  Classic, whatever the virtual host's default: a quorum queue hands on what has expired either at
        most once, or with thousands of duplicates after a crash."""
        return QueueSpec(name=self.name, type="classic", ttl=self.seconds, dead_letter_exchange="")

    @property
    def binding(self) -> BindingSpec:
        """From the exchange to the queue, for every home queue."""
        return BindingSpec(kind=BindingKind.QUEUE, source=self.name, destination=self.name, routing_key="#")


def delay_of(seconds: float) -> Delay:
    """The delay of exactly so many seconds, to the millisecond: for the few that a program names.

    Raises:
        FleetMistake: it is not above 0, or more than 30 days.
    """
    check_delay("delay", seconds)
    return Delay(max(round(seconds * 1000), 1))


def delay_near(seconds: float) -> Delay:
    """The delay of two digits next to so many seconds: for those that are computed, which would else need a queue each.

    It is at most 5 % shorter or longer.  Raises as ``delay_of``.
    """
    exact = delay_of(seconds).milliseconds
    unit = 1
    while exact >= DIGITS * unit:
        unit *= 10
    return Delay(min(math.floor(exact / unit + 0.5) * unit, round(DELAY_MAX * 1000)))
