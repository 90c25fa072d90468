"""What happened to each message: the checker behind every delivery promise.

The names of the checks are Jepsen's for a queue: *lost* is what the broker confirmed and
nobody received, *unexpected* is what was received and never sent.  Duplicates are allowed by
at-least-once delivery, and bounded by the test.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Hashable, Iterable

import attrs

Id = Hashable


@attrs.frozen(kw_only=True)
class Report:
    """The verdict on one history; ``check`` turns it into a failure."""

    attempted: int
    confirmed: int
    received: int
    handled: int
    lost: tuple[Id, ...]
    """Confirmed and never received."""
    unexpected: tuple[Id, ...]
    """Received and never attempted."""
    unhandled: tuple[Id, ...]
    """Received and never handled to the end."""
    recovered: tuple[Id, ...]
    """Received though never confirmed: the unknown ones that had arrived after all."""
    duplicates: dict[Id, int]
    """How many times more than once each was received."""
    out_of_order: tuple[tuple[Id, Id], ...]
    """Neighbours whose first receipts came in the other order than their attempts."""

    def check(self, *, duplicates: int | None = None, in_order: bool = False) -> None:
        """Fail on anything lost or unexpected, on more duplicates than allowed, on disorder if asked."""
        wrong = []
        if self.lost:
            wrong.append(f"{len(self.lost)} confirmed and lost: {_some(self.lost)}")
        if self.unexpected:
            wrong.append(f"{len(self.unexpected)} received and never sent: {_some(self.unexpected)}")
        if duplicates is not None and sum(self.duplicates.values()) > duplicates:
            wrong.append(f"{sum(self.duplicates.values())} duplicates, allowed {duplicates}: {_some(self.duplicates)}")
        if in_order and self.out_of_order:
            wrong.append(f"{len(self.out_of_order)} out of order: {_some(self.out_of_order)}")
        if wrong:
            raise AssertionError("; ".join(wrong) + f"\n{self}")

    def __str__(self) -> str:
        return (
            f"attempted {self.attempted}, confirmed {self.confirmed}, received {self.received}"
            f" ({sum(self.duplicates.values())} duplicates), handled {self.handled}, lost {len(self.lost)},"
            f" unexpected {len(self.unexpected)}, recovered {len(self.recovered)}"
        )


class History:
    """A ledger of one test's messages; any thread or task may write to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempted: dict[Id, None] = {}
        self._confirmed: dict[Id, None] = {}
        self._received: Counter[Id] = Counter()
        self._handled: Counter[Id] = Counter()

    def attempt(self, message: Id) -> None:
        """About to publish this one; each id once, resending is the library's work."""
        with self._lock:
            if message in self._attempted:
                raise ValueError(f"{message!r} was attempted before: ids must be unique")
            self._attempted[message] = None

    def confirm(self, message: Id) -> None:
        """The publish was reported as a success."""
        with self._lock:
            self._confirmed[message] = None

    def receive(self, message: Id) -> None:
        """A consumer got it."""
        with self._lock:
            self._received[message] += 1

    def handle(self, message: Id) -> None:
        """A consumer finished with it (and acknowledged it)."""
        with self._lock:
            self._handled[message] += 1

    @property
    def confirmed(self) -> frozenset[Id]:
        with self._lock:
            return frozenset(self._confirmed)

    def missing(self) -> frozenset[Id]:
        """What is confirmed and not received yet: empty is when a test may stop waiting."""
        with self._lock:
            return frozenset(self._confirmed) - frozenset(self._received)

    def report(self) -> Report:
        """Judge what was written so far."""
        with self._lock:
            position = {message: index for index, message in enumerate(self._attempted)}
            firsts = [message for message in self._received if message in position]
            return Report(
                attempted=len(self._attempted),
                confirmed=len(self._confirmed),
                received=sum(self._received.values()),
                handled=sum(self._handled.values()),
                lost=tuple(message for message in self._confirmed if message not in self._received),
                unexpected=tuple(message for message in self._received if message not in position),
                unhandled=tuple(message for message in self._received if message not in self._handled),
                recovered=tuple(message for message in firsts if message not in self._confirmed),
                duplicates={message: times - 1 for message, times in self._received.items() if times > 1},
                out_of_order=tuple(
                    (one, next_one)
                    for one, next_one in itertools.pairwise(firsts)
                    if position[one] > position[next_one]
                ),
            )


def _some(things: Iterable[object], limit: int = 10) -> str:
    listed = [repr(thing) for thing in things]
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")
