"""Keys and their lanes: which message may be begun.  Pure; time is an argument."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from .._frozen import Record

T = TypeVar("T")


class LaneView(Record):
    """A lane that more than its running message is in."""

    key: Hashable
    waiting: int
    """Messages that wait, the held one left out."""
    held_until: float | None
    """Until when its first message is held, in seconds of trio's clock; None: it isn't."""


class Lanes(Generic[T]):
    """Messages by key: one of each key is at work at a time, in order; keys don't wait for each other.

    A lane is runnable, at work, or held.  Whoever calls bounds what is added: by the prefetch.
    """

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[T]] = {}
        """By key, for as long as something of it is here."""
        self._runnable: deque[Hashable] = deque()
        self._held: dict[Hashable, float] = {}
        self._alarms: list[tuple[float, int, Hashable]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """How many messages wait, held ones included."""
        return sum(map(len, self._lanes.values()))

    def add(self, key: Hashable, item: T) -> None:
        """A message came; raises ``TypeError`` for a key that can't be one."""
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque((item,))
            self._runnable.append(key)
        else:
            lane.append(item)

    def take(self) -> tuple[Hashable, T] | None:
        """The next message that may be begun; its lane waits for ``done`` or ``hold``.  None: there is none now."""
        if not self._runnable:
            return None
        key = self._runnable.popleft()
        return key, self._lanes[key].popleft()

    def done(self, key: Hashable) -> None:
        """The lane's message is out of here; the next one may be begun."""
        if self._lanes[key]:
            self._runnable.append(key)
        else:
            del self._lanes[key]

    def hold(self, key: Hashable, item: T, until: float) -> None:
        """The lane's message is tried again at that time, and those behind it wait."""
        self._lanes[key].appendleft(item)
        self._held[key] = until
        heapq.heappush(self._alarms, (until, next(self._numbers), key))

    @property
    def next_release(self) -> float | None:
        """When ``release`` has something to do; None: not before ``hold``."""
        return self._alarms[0][0] if self._alarms else None

    def release(self, now: float) -> int:
        """Let the messages go whose time has come; returns how many."""
        count = 0
        while self._alarms and self._alarms[0][0] <= now:
            _, _, key = heapq.heappop(self._alarms)
            del self._held[key]
            self._runnable.append(key)
            count += 1
        return count

    def clear(self) -> list[T]:
        """Take out all that wait, held ones included; those at work stay, and are ``done`` in their time."""
        waiting = [item for lane in self._lanes.values() for item in lane]
        idle = {*self._runnable, *self._held}
        for lane in self._lanes.values():
            lane.clear()
        for key in idle:
            del self._lanes[key]
        self._runnable.clear()
        self._held.clear()
        self._alarms.clear()
        return waiting

    def view(self) -> Iterator[LaneView]:
        """The lanes in which something waits."""
        for key, lane in self._lanes.items():
            held = self._held.get(key)
            if lane:
                yield LaneView(key, len(lane) - (held is not None), held)
