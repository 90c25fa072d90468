"""Whether a consumer has gone deaf, and what is to be done about it.  Pure: moments come in as arguments.

A consumer is *deaf* when messages wait in its queue, it has room for them, and none comes.  Connection, channel and
subscription may all look well then.  It is asked about its queue only while nothing comes; messages have to be found
waiting at each of several looks.
"""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["LOOKS", "Sight", "Step", "Watch", "judge", "look"]

LOOKS = 3
"""Looks within ``deaf_after``: so that a message on its way at one of them makes nobody deaf, and for an idle queue the
broker is asked once in ten seconds by default."""


class Step(Enum):
    """What is done about a deaf consumer, one after the other until something comes."""

    DEGRADED = "degraded"
    """It is said."""
    CONSUMER = "consumer"
    """Its subscription is made anew; what it has in hand stays valid."""
    CHANNEL = "channel"
    """The subscription's channel is."""
    SESSION = "session"
    """The session of the connection that consumes is, and so all consumers' channels."""
    PROCESS = "process"
    """The fleet ends here, with the failure, so that whoever runs the process begins another."""


LADDER = tuple(Step)


@attrs.frozen
class Sight:
    """A consumer at one moment, as far as it concerns what it hears."""

    line: tuple[int, int]
    """Which subscription it has, and how often that has been granted: after each grant its time begins again."""
    arrived: int
    """Messages that have come over that subscription."""
    open: bool
    """Whether messages should come if there are any: it has room, and nothing is known that keeps them from it."""


@attrs.frozen
class Watch:
    """What is known of a consumer."""

    sight: Sight
    heard_at: float
    """When something came last, or the watch began."""
    since: float
    """When it was last known to be well, or a step was taken."""
    looks: int = 0
    """How often, since then, messages were waiting."""
    heard: bool = False
    """Whether anything has come since the last grant."""
    silent: bool = False
    """Whether its queue should be asked: nothing came since the last look, though it could have."""
    step: Step | None = None
    """The last step that was taken; None: it is well, as far as is known."""

    @classmethod
    def begin(cls, sight: Sight, now: float) -> Watch:
        """The first look."""
        return cls(sight, heard_at=now, since=now)


def look(watch: Watch, sight: Sight, now: float) -> Watch:
    """Look at a consumer again; when something has come it is well."""
    granted = sight.line != watch.sight.line
    if sight.arrived != (0 if granted else watch.sight.arrived):
        return Watch(sight, heard_at=now, since=now, heard=True)
    if granted or not sight.open:
        heard = watch.heard and not granted
        return attrs.evolve(watch, sight=sight, since=now, looks=0, heard=heard, silent=False)
    return attrs.evolve(watch, sight=sight, silent=True)


def judge(watch: Watch, waiting: bool, now: float, deaf_after: float) -> Watch:
    """What follows from whether messages wait for a silent consumer: when ``step`` has changed, it is to be taken."""
    if not waiting:
        return attrs.evolve(watch, since=now, looks=0, step=None)
    watch = attrs.evolve(watch, looks=watch.looks + 1)
    patience, looks = (deaf_after, LOOKS) if watch.step is None else (deaf_after / LOOKS, 1)
    if watch.looks < looks or now - watch.since < patience or watch.step is LADDER[-1]:
        return watch
    following = LADDER[0 if watch.step is None else LADDER.index(watch.step) + 1]
    return attrs.evolve(watch, since=now, looks=0, step=following)
