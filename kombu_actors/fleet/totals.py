"""What a program has counted since it began, over all its processes.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

import attrs

from ._measures import CALL_BOUNDS, CONFIRM_BOUNDS, WAIT_BOUNDS, MeasureView, quantile
from .certificate import QueueCount
from .documents import FleetDocument, TotalsDocument

__all__ = ["CALL_BOUNDS", "CONFIRM_BOUNDS", "WAIT_BOUNDS", "MeasureView", "QueueTotals", "Totals", "quantile"]


@attrs.frozen(kw_only=True)
class QueueTotals:
    """Of one queue."""

    count: QueueCount
    calls: MeasureView | None = None
    """How long calls of handlers took; None: there has been none."""
    waits: MeasureView | None = None
    """How long messages had waited in it; see ``ConsumerView``."""

    def __add__(self, other: QueueTotals) -> QueueTotals:
        return QueueTotals(
            count=QueueCount.of([self.count, other.count]),
            calls=plus(self.calls, other.calls),
            waits=plus(self.waits, other.waits),
        )


@attrs.frozen(kw_only=True)
class Totals:
    """Counts and times that only grow."""

    queues: Mapping[str, QueueTotals] = attrs.field(factory=dict)
    confirms: MeasureView | None = None
    """How long the broker's confirms took; see ``FleetView``."""
    restarts: Mapping[str, int] = attrs.field(factory=dict)
    """How often an actor went down and was started again, or tried to be; by the part of the tree."""
    deaths: int = 0
    """Processes that ended, and nobody had told them to."""

    @classmethod
    def of(cls, view: FleetDocument) -> Totals:
        """Of one process, by its ``FleetView`` as a dict."""
        queues: dict[str, QueueTotals] = {}
        for consumer in view["consumers"]:
            one = QueueTotals(
                count=QueueCount(**consumer["count"]),
                calls=MeasureView.of(consumer["calls"]),
                waits=MeasureView.of(consumer["waits"]),
            )
            queue = consumer["queue"]
            queues[queue] = queues[queue] + one if queue in queues else one
        return cls(queues=queues, confirms=MeasureView.of(view["confirms"]), restarts=view["restarts"])

    def __add__(self, other: Totals) -> Totals:
        queues = dict(self.queues)
        for queue, one in other.queues.items():
            queues[queue] = queues[queue] + one if queue in queues else one
        return Totals(
            queues=queues,
            confirms=plus(self.confirms, other.confirms),
            restarts=Counter(self.restarts) + Counter(other.restarts),
            deaths=self.deaths + other.deaths,
        )

    def but(self, counts: Mapping[str, QueueCount], *, deaths: int) -> Totals:
        """These, with other counts of messages."""
        queues = {
            queue: attrs.evolve(self.queues[queue], count=count) if queue in self.queues else QueueTotals(count=count)
            for queue, count in counts.items()
        }
        return attrs.evolve(self, queues=queues, deaths=deaths)

    def to_dict(self) -> TotalsDocument:
        """JSON-able."""
        return cast(TotalsDocument, attrs.asdict(self))


def plus(one: MeasureView | None, other: MeasureView | None) -> MeasureView | None:
    """Both together."""
    if one is None or other is None:
        return one or other
    return one + other
