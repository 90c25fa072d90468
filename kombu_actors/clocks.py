"""Logical clocks: in which order events of several processes happened, as far as one can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from threading import Lock as _Lock
from typing import Any, NamedTuple, TypeVar

__all__ = ["LamportClock", "timetuple"]

E = TypeVar("E", bound=tuple[Any, ...])


class _Fields(NamedTuple):
    clock: int | None
    timestamp: float
    id: str
    obj: Any = None


class timetuple(_Fields):
    """When an event happened: logical clock, wall clock and the process's id, with anything that belongs to it.

    They sort by logical clock, and where that is equal by id; by wall clock where one of the two has no logical clock.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"_lamport(clock={self.clock}, timestamp={self.timestamp}, id={self.id} {self.obj!r})"

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        mine, theirs = self[0], other[0]
        if not mine or not theirs:
            return bool(self[1] < other[1])
        return bool(self[2] < other[2]) if mine == theirs else bool(mine < theirs)

    def __gt__(self, other: tuple[Any, ...]) -> bool:
        return timetuple(*other) < self

    def __le__(self, other: tuple[object, ...]) -> bool:
        return not self > other

    def __ge__(self, other: tuple[object, ...]) -> bool:
        return not self < other


class LamportClock:
    """Lamport's clock: a counter that each event takes forward, and each message received puts past its sender's.

    Send ``forward()`` along with a message; call ``adjust(that)`` where it arrives.  An event that may have caused
    another then has the smaller number.  ``Lock`` makes the lock that guards it; any thread may use the clock.
    (L. Lamport, "Time, clocks, and the ordering of events in a distributed system", 1978.)
    """

    value = 0
    """The time now."""

    def __init__(self, initial_value: int = 0, Lock: Callable[[], AbstractContextManager[object]] = _Lock) -> None:
        self.value = initial_value
        self.mutex = Lock()

    def adjust(self, other: int) -> int:
        """Go past the time that a message brought; returns the new time."""
        with self.mutex:
            self.value = max(self.value, other) + 1
            return self.value

    def forward(self) -> int:
        """Count one more event; returns its time."""
        with self.mutex:
            self.value += 1
            return self.value

    def sort_heap(self, h: Sequence[E]) -> E:
        """The first of a sorted list of ``(time, id, ...)``; of several with the same time the one of the lowest id."""
        return min(takewhile(lambda event: event[0] == h[0][0], h), key=lambda event: event[1])

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"<LamportClock: {self.value}>"
