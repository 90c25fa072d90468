"""When the broker must next look at a queue."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._queue import Queue

Alarm = tuple["Queue", str]
"""A queue and what to look for there: ``messages`` that expire, or the ``queue`` itself."""

SLACK = 64
"""Outdated heap items tolerated before the heap is rebuilt: enough to make rebuilding rare."""


@attrs.define(eq=False)
class Timers:
    """One deadline for each queue and purpose, the earliest asked for.  Size: twice the deadlines plus a constant."""

    next_deadline: float = inf
    _deadlines: dict[Alarm, float] = attrs.field(factory=dict)
    _heap: list[tuple[float, int, Alarm]] = attrs.field(factory=list)
    _serial: Iterator[int] = attrs.field(factory=count)

    def set(self, alarm: Alarm, deadline: float) -> None:
        """Ask to look at ``deadline``; nothing changes when an earlier look is planned."""
        if self._deadlines.get(alarm, inf) <= deadline:
            return
        self._deadlines[alarm] = deadline
        heappush(self._heap, (deadline, next(self._serial), alarm))
        if len(self._heap) > 2 * len(self._deadlines) + SLACK:
            self._heap = [item for item in self._heap if self._current(item)]
            heapify(self._heap)
        self._look_ahead()

    def forget(self, queue: Queue) -> None:
        """Drop what was planned for a queue that is gone."""
        for purpose in ("messages", "queue"):
            self._deadlines.pop((queue, purpose), None)
        self._look_ahead()

    def due(self, now: float) -> list[Alarm]:
        """Take what is due."""
        alarms = []
        while self.next_deadline <= now:
            _deadline, _serial, alarm = heappop(self._heap)
            del self._deadlines[alarm]
            alarms.append(alarm)
            self._look_ahead()
        return alarms

    def _current(self, item: tuple[float, int, Alarm]) -> bool:
        return self._deadlines.get(item[2]) == item[0]

    def _look_ahead(self) -> None:
        while self._heap and not self._current(self._heap[0]):
            heappop(self._heap)
        self.next_deadline = self._heap[0][0] if self._heap else inf
