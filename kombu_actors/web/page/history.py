"""An hour of a program: figures every ten seconds, and what happened.  Pure, and bounded whatever the fleet does."""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import cast

import attrs

from ...fleet.documents import CertificateDocument, ConsumerDocument
from ...fleet.status import Status
from .sentences import Entry, Record, told

__all__ = ["HOUR", "STEP", "History", "Series"]

HOUR = 3600.0
STEP = 10.0
"""Seconds between figures of the whole program: an outage of half a minute is seen, and an hour is 360 of them."""
MINUTE = 60.0
"""Seconds between figures of one queue or process: what a small picture has room for."""
SERIES_MAX = 4000
"""Figures that are remembered: one for each of some thousand queues, and two for each process.  60 floats of 4 bytes
each and what holds them are about 0.5 kB: 2 MB at most, beside six of the whole program."""
ENTRIES_MAX = 500
"""Entries of the timeline: what fits ten screens.  Each is cut to about a kilobyte, and a stack to four."""
MERGED_WITHIN = 30.0
"""Seconds in which the same again is one more of an entry: a broker that is away fails a hundred messages at once."""
MERGED_AMONG = 20
"""Latest entries that are looked through for the same."""
STACKS_MAX = 500
"""Actors whose last stack is kept."""
CERTIFICATES_MAX = 20
RATE_OVER = 10.0
"""Seconds that a rate is the mean of."""
Counts = tuple[int, int]


class Series:
    """One figure over an hour, of each ``step`` seconds the highest; NaN where it is not known."""

    __slots__ = ("_last", "_step", "_values")

    def __init__(self, step: float = MINUTE) -> None:
        self._step = step
        self._values = array("f", [math.nan]) * int(HOUR / step)
        self._last = 0
        """The slot that was written last, counted from 1970."""

    def put(self, at: float, value: float) -> None:
        """The figure at a moment."""
        slot, size = int(at / self._step), len(self._values)
        if slot > self._last:
            for gone in range(max(self._last + 1, slot - size + 1), slot):
                self._values[gone % size] = math.nan
            self._values[slot % size] = value
            self._last = slot
        elif slot == self._last:  # or the clock was put back
            self._values[slot % size] = max(self._values[slot % size], value)

    def until(self, at: float) -> list[float]:
        """The hour that ends with a moment, oldest first."""
        slot, size = int(at / self._step), len(self._values)
        begin = (slot + 1) % size
        if slot == self._last:
            return [*self._values[begin:], *self._values[:begin]]
        first = self._last - size + 1
        return [
            self._values[one % size] if first <= one <= self._last else math.nan
            for one in range(slot - size + 1, slot + 1)
        ]


@attrs.define(eq=False)
class Throughput:
    """Messages of one queue, or of all, since the page began."""

    handled: int = 0
    failed: int = 0
    recent: deque[tuple[float, int, int]] = attrs.field(factory=lambda: deque(maxlen=32))
    """Moments and sums of the last seconds."""

    def rates(self) -> tuple[float, float]:
        """Handled and failed per second, lately."""
        if len(self.recent) < 2:
            return 0.0, 0.0
        (then, handled, failed), (now, *_) = self.recent[0], self.recent[-1]
        elapsed = max(now - then, 0.1)
        return (self.handled - handled) / elapsed, (self.failed - failed) / elapsed

    def note(self, now: float) -> None:
        """Remember the sums of this moment."""
        while len(self.recent) > 2 and self.recent[1][0] <= now - RATE_OVER:
            self.recent.popleft()
        self.recent.append((now, self.handled, self.failed))


class History:
    """What the page remembers.  It is told of statuses (``saw``) and events (``heard``); it knows no clock."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)
        """The timeline, oldest first."""
        self.certificates: deque[CertificateDocument] = deque(maxlen=CERTIFICATES_MAX)
        """Those of processes that have ended, oldest first."""
        self.queues: dict[str, Throughput] = {}
        self.whole = Throughput()
        self.at = 0.0
        """The moment of the last status."""
        self._series: dict[str, Series] = {}
        self._stacks: OrderedDict[tuple[int | None, str], str] = OrderedDict()
        self._counted: dict[tuple[int, str], tuple[object, Counts]] = {}
        self._budgets: dict[tuple[int | None, str], int] = {}
        self._number = 0

    # -- what it is told ----------------------------------------------------------------------

    def heard(self, record: Record) -> None:
        """An event, as ``Happened.to_dict()``."""
        if isinstance(certificate := record.get("certificate"), Mapping):
            self.certificates.append(cast(CertificateDocument, certificate))
        if isinstance(stack := record.get("stack"), str) and stack:
            key = (record.get("process"), str(record.get("path", "")))
            self._stacks[key] = stack
            self._stacks.move_to_end(key)
            if len(self._stacks) > STACKS_MAX:
                self._stacks.popitem(last=False)
        entry = told(record)
        if entry is None:
            return
        self._series_of(f"events/{entry.grade.name}", STEP).put(entry.at, 1.0)
        for earlier in list(self.entries)[: -MERGED_AMONG - 1 : -1]:
            if earlier.same_as(entry) and entry.at - earlier.at <= MERGED_WITHIN:
                earlier.again(entry)
                return
        self._number += 1
        self.entries.append(Entry(number=self._number, told=entry))

    def saw(self, status: Status) -> None:
        """How the program stands."""
        self.at = status.at
        for process in status.processes:
            self._put(f"rss/{process.number}", process.rss)
            self._put(f"lag/{process.number}", process.loop_lag)
            life = (process.pid, process.generation)
            for consumer in () if process.fleet is None else process.fleet["consumers"]:
                self._count(process.number, life, consumer)
        for name, one in self.queues.items():
            one.note(status.at)
            self._put(f"handled/{name}", one.rates()[0])
        self.whole.note(status.at)
        handled, failed = self.whole.rates()
        self._put("handled", handled, STEP)
        self._put("failed", failed, STEP)

    def _count(self, number: int, life: object, consumer: ConsumerDocument) -> None:
        count = consumer["count"]
        now = (count["acked"], count["retried"] - count["snoozed"] + count["dead_lettered"])
        key = (number, consumer["path"])
        lived, before = self._counted.get(key, (None, (0, 0)))
        if lived is None:
            before = now  # what was before anybody looked is no rate
        elif lived != life:
            before = (0, 0)
        self._counted[key] = (life, now)
        if len(self.queues) < SERIES_MAX or consumer["queue"] in self.queues:
            queue = self.queues.setdefault(consumer["queue"], Throughput())
            for one in (queue, self.whole):
                one.handled += max(now[0] - before[0], 0)
                one.failed += max(now[1] - before[1], 0)

    def _put(self, name: str, value: float, step: float = MINUTE) -> None:
        self._series_of(name, step).put(self.at, value)

    def _series_of(self, name: str, step: float) -> Series:
        series = self._series.get(name)
        if series is None:
            series = Series(step)
            if len(self._series) < SERIES_MAX:  # otherwise it is forgotten at once: there is no more room
                self._series[name] = series
        return series

    # -- what it is asked ---------------------------------------------------------------------

    def hour(self, name: str) -> Sequence[float]:
        """A figure's last hour, oldest first: ``handled``, ``handled/<queue>``, ``rss/<process>``, ..."""
        series = self._series.get(name)
        return () if series is None else series.until(self.at)

    def stack(self, process: int | None, path: str) -> str | None:
        """Where an actor failed last."""
        return self._stacks.get((process, path))

    def budget(self, process: int | None, path: str, left: int) -> int:
        """The whole budget of restarts that ``left`` is left of: the most that was seen."""
        most = max(self._budgets.get((process, path), 0), left)
        self._budgets[process, path] = most
        return most
