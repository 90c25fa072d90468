"""What can't be restored yet, and when each is tried again: pure, times and draws come in as arguments."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from .._frozen import Record
from ..supervisors import Backoff

K = TypeVar("K", bound=Hashable)

RETRY_BACKOFF = Backoff(first=0.1, base=0.25, factor=2.0, maximum=3.0, jitter=0.25)
"""A lock or a race is over in milliseconds, a peer's restart in seconds; the cap keeps recovery within
5 s of the moment from which on it is possible, at one question per 3 s for as long as it isn't."""
LASTING = 20.0
"""Seconds after which waiting is no blip: more than a broker's restart takes, or finding a lost peer with
a heartbeat of 10 s (twice that, until RabbitMQ lets go of its exclusive queues)."""


class Waiting(Record):
    """Something that the broker refuses to restore just now, as it stands."""

    what: str
    """For people: ``queue 'orders'``, ``binding 'events' -> 'orders' ('order.*')``."""
    reason: str
    """The broker's words."""
    since: float
    """When it was refused first."""
    attempts: int
    """Refusals in a row."""
    next_at: float
    """When it is tried again; infinite when trying would cost others their session."""
    lasts: bool = False
    """Whether it has waited for longer than ``LASTING``."""
    loudness: int | None = None
    """The level at which this refusal is worth a line in the log; None: it was said before."""


def refused_again(before: Waiting | None, what: str, reason: str, now: float, u: float) -> Waiting:
    """How it stands after one more refusal; ``u`` in [0, 1) is the draw for the delay.

    It is said once when it begins and when its reason changes, and once more, louder, when it lasts.
    """
    if before is None:
        before = Waiting(what=what, reason="", since=now, attempts=0, next_at=now)
    lasts = now - before.since >= LASTING
    loudness = None if before.reason == reason else logging.WARNING
    return Waiting(
        what=what,
        reason=reason,
        since=before.since,
        attempts=before.attempts + 1,
        next_at=now + RETRY_BACKOFF.delay(before.attempts, u),
        lasts=lasts,
        loudness=logging.ERROR if lasts and not before.lasts else loudness,
    )


class Waitlist(Generic[K]):
    """Everything that waits, by its identity."""

    def __init__(self) -> None:
        self._waiting: dict[K, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(tuple(self._waiting.values()))

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def identities(self) -> list[K]:
        """Of all that waits."""
        return list(self._waiting)

    def refused(self, key: K, what: str, reason: str, now: float, u: float) -> Waiting:
        """Note one more refusal; returns how it stands."""
        waiting = self._waiting[key] = refused_again(self._waiting.get(key), what, reason, now, u)
        return waiting

    def barred(self, key: K, what: str, reason: str, now: float) -> Waiting:
        """Note something that isn't tried again by itself."""
        waiting = Waiting(what=what, reason=reason, since=now, attempts=1, next_at=math.inf, loudness=logging.ERROR)
        self._waiting[key] = waiting
        return waiting

    def is_barred(self, key: K) -> bool:
        """Whether it is one of those that aren't tried again by themselves."""
        waiting = self._waiting.get(key)
        return waiting is not None and waiting.next_at == math.inf

    def settled(self, key: K) -> Waiting | None:
        """It is there, or nobody wishes for it any more; returns how it stood, None when it didn't wait."""
        return self._waiting.pop(key, None)

    def restart(self, now: float) -> None:
        """A new session: all delays start afresh, but for what is barred."""
        for key, waiting in self._waiting.items():
            if waiting.next_at != math.inf:
                self._waiting[key] = waiting.but(attempts=0, next_at=now)

    def next_at(self) -> float:
        """When the next one is due; infinite when nothing waits."""
        return min((waiting.next_at for waiting in self._waiting.values()), default=math.inf)

    def first_due(self, now: float) -> K | None:
        """The one that is due longest; None when none is."""
        key = min(self._waiting, key=lambda key: self._waiting[key].next_at, default=None)
        return key if key is not None and self._waiting[key].next_at <= now else None
