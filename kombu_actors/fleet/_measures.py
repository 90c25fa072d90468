"""How long things took, counted in buckets: a third of a microsecond each, whatever their number.  Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ._headers import ATTEMPT
from .documents import MeasureDocument

__all__ = ["CALL_BOUNDS", "CONFIRM_BOUNDS", "WAIT_BOUNDS", "CallMeasures", "Measure", "MeasureView", "quantile"]

CALL_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)
"""Upper bounds in seconds, each belonging to its bucket: of calls of handlers, which are done in a millisecond or take
until their timeout."""
WAIT_BOUNDS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Of the wait in a queue: publishers stamp to the second, and a backlog lasts a day."""
CONFIRM_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of publishing, until the broker's confirm: it is given up after half a minute."""

AGE_MAX = 365 * 86400.0
"""Seconds that a message may have waited: what says more is no time."""
SKEW_MAX = 3600.0
"""Seconds that a publisher's clock may be ahead."""


@attrs.frozen
class MeasureView:
    """What has been measured so far."""

    counts: tuple[int, ...]
    """How many in each bucket; the last one is for what is above all bounds."""
    sum: float
    """Seconds of all of them together."""

    def __add__(self, other: MeasureView) -> MeasureView:
        return MeasureView(tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)), self.sum + other.sum)

    @classmethod
    def of(cls, record: MeasureDocument | None) -> MeasureView | None:
        """From what it is as a dict."""
        return None if record is None else cls(tuple(record["counts"]), record["sum"])


class Measure:
    """Owns the counts of one kind of thing."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """It took so long."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def view(self) -> MeasureView | None:
        """So far; None: nothing yet."""
        return MeasureView(tuple(self._counts), self._sum) if any(self._counts) else None


class CallMeasures:
    """Owns those of one consumer; they outlive its restarts.

    For each message: so times are those of ``time.perf_counter``, as trio's clock takes seven times as long to tell.

    Args:
        offset: from that clock to seconds since 1970.
    """

    __slots__ = ("_offset", "calls", "ended", "waits")

    def __init__(self, offset: float) -> None:
        self.calls = Measure(CALL_BOUNDS)
        self.waits = Measure(WAIT_BOUNDS)
        self.ended: float | None = None
        """When the last call was done."""
        self._offset = offset

    def call(self, began: float, ended: float, properties: Mapping[str, object]) -> None:
        """A handler is done with a message, or a batch of them of which this is the first, well or not."""
        self.ended = ended
        self.calls.add(ended - began)
        published = properties.get("timestamp")
        if published is not None:
            self.waited(published, began + self._offset, properties)

    def waited(self, published: object, now: float, properties: Mapping[str, object]) -> None:
        """A message came to its handler, whose publisher said when that was: counted the first time.

        What can't be a time is left out: some publishers stamp in milliseconds.
        """
        # By type: isinstance with what there might be costs more than all the rest.
        if type(published) is int and now - AGE_MAX < published < now + SKEW_MAX:
            headers: Any = properties.get("headers")
            if not headers or ATTEMPT not in headers:
                self.waits.add(max(now - published, 0.0))

    @property
    def progress_at(self) -> float | None:
        """When the last call was done, seconds since 1970; None: there has been none."""
        return None if self.ended is None else self.ended + self._offset


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """How long the ``share`` of them took at most, within their bucket as if they were spread evenly; None: no idea.

    What lies above all bounds is given as the last one.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for number, count in enumerate(counts[: len(bounds)]):
        if count and below + count >= rank:
            low = bounds[number - 1] if number else 0.0
            return low + (bounds[number] - low) * max(rank - below, 0.0) / count
        below += count
    return bounds[-1]
