"""All timers of a tree in one sleeping task: no polling, no task per timer."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import trio

from ._interrupts import protected

FEW = 64
"""Timers that may be there though they were cancelled: of a thousand children each had one for its start."""


class Timer:
    """A call that is due at a moment, unless cancelled."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Forget the call; harmless when it has been made."""
        self.call = None

    def fire(self) -> None:
        """Make the call, unless it was made or cancelled."""
        call, self.call = self.call, None
        if call is not None:
            call()


@protected
class Timers:
    """Calls functions at moments of ``trio.current_time``."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._full = FEW
        """How many there may be before those that were cancelled are cleared away."""
        self._order = itertools.count()
        self._sleep: trio.CancelScope | None = None
        self._closed = False

    def at(self, moment: float, call: Callable[[], None]) -> Timer:
        """Call ``call()`` in the trio thread at the moment; it must not raise."""
        timer = Timer(moment, call)
        self.add(timer)
        return timer

    def add(self, timer: Timer) -> None:
        if len(self._heap) >= self._full:
            self._heap = [entry for entry in self._heap if entry[2].call is not None]
            heapq.heapify(self._heap)
            self._full = max(2 * len(self._heap), FEW)
        heapq.heappush(self._heap, (timer.at, next(self._order), timer))
        if self._sleep is not None and timer.at < self._sleep.deadline:
            self._sleep.deadline = timer.at

    async def run(self) -> None:
        """Serve until ``close``; shielded, because stopping in order needs timers too."""
        while not self._closed:
            self._fire()
            with trio.CancelScope(deadline=self._next(), shield=True) as self._sleep:
                if not self._closed:
                    await trio.sleep_forever()
            self._sleep = None

    def close(self) -> None:
        self._closed = True
        if self._sleep is not None:
            self._sleep.cancel()

    def _fire(self) -> None:
        now = trio.current_time()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].call is None):
            heapq.heappop(self._heap)[2].fire()

    def _next(self) -> float:
        return self._heap[0][0] if self._heap else math.inf
