"""What became of the messages of all processes: one certificate."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ...supervisors._interrupts import protected
from ..certificate import Certificate, QueueCount
from ..documents import QueueCountDocument
from ..totals import Totals
from ._process import Process


@protected
class Accounts:
    """Owns the sums over all processes that have ended."""

    def __init__(self, fleet: str, began_at: float) -> None:
        self._fleet = fleet
        self._began_at = began_at
        self._queues: dict[str, QueueCount] = {}
        self._totals = Totals()
        self._cold = False
        self._deaths = 0

    def totals(self, living: Iterable[Process]) -> Totals:
        """What all processes have counted: those that have ended, and these."""
        return sum((Totals.of(one.view) for one in living if one.view is not None), self._totals)

    def close(self, process: Process) -> None:
        """A process has ended: add what it left, a certificate or what it told last."""
        made = process.certificate
        self._totals += closed(process)
        if made is not None:
            self._cold = self._cold or made["cold"]
            for queue, count in made["queues"].items():
                self._add(queue, QueueCount(**count))
            return
        if has_died(process):
            self._deaths += 1
        elif process.was_ready:
            self._cold = True
        if process.view is not None:
            for consumer in process.view["consumers"]:
                self._add(consumer["queue"], cut_off(consumer["count"]))

    def certificate(self, ended_at: float) -> Certificate:
        """The sum."""
        return Certificate(
            fleet=self._fleet,
            began_at=self._began_at,
            ended_at=ended_at,
            cold=self._cold,
            queues=dict(self._queues),
            deaths=self._deaths,
        )

    def _add(self, queue: str, count: QueueCount) -> None:
        before = self._queues.get(queue)
        self._queues[queue] = count if before is None else QueueCount.of([before, count])


def has_died(process: Process) -> bool:
    """Whether it ended without being told to, and left no certificate: one that somebody sent TERM has drained."""
    return process.asked is None and process.certificate is None


def cut_off(count: QueueCountDocument) -> QueueCount:
    """The count of a consumer whose process is gone: what was in hand, its broker delivers again."""
    known = QueueCount(**count)
    return attrs.evolve(known, unknown=known.unknown + known.missing)


def closed(process: Process) -> Totals:
    """What a process that has ended has counted: by its certificate, and the rest as it told it last."""
    last = Totals() if process.view is None else Totals.of(process.view)
    if process.certificate is not None:
        counts = {queue: QueueCount(**count) for queue, count in process.certificate["queues"].items()}
    else:
        counts = {queue: cut_off(one.count.to_dict()) for queue, one in last.queues.items()}
    return last.but(counts, deaths=int(has_died(process)))
