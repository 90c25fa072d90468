"""How the place of a process stands."""

from __future__ import annotations

import time

import trio

from ...supervisors._interrupts import protected
from .._standing import standing
from ..documents import ChildDocument
from ..status import ProcessState, ProcessStatus
from ._place import Place
from ._process import Process


@protected
class Statuses:
    """Remembers since when each place has stood like that."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[ProcessState, float]] = {}

    def of(self, place: Place, actor: ChildDocument | None, *, stopping: bool) -> ProcessStatus:
        """A place now; ``actor`` is its ``ChildView`` as a dict, None before the first."""
        process = place.current if place.current in place.living else next(iter(place.living), None)
        state, why = _of_nobody(place, actor, stopping) if process is None else _of(process)
        wall = time.time()
        if self._since.get(place.number, (None,))[0] is not state:
            self._since[place.number] = state, wall
        since = self._since[place.number][1]
        if process is None:
            wait = None if actor is None else actor["next_attempt_in"]
            next_at = None if wait is None else wall + wait
            return ProcessStatus(
                number=place.number,
                pid=None,
                generation=place.generation,
                state=state,
                why=why,
                since=since,
                next_at=next_at,
            )
        return ProcessStatus(
            number=place.number,
            pid=process.pid,
            generation=process.generation,
            state=state,
            why=why,
            since=since,
            beat_age=trio.current_time() - process.heard_at,
            rss=process.rss,
            loop_lag=process.lag,
            fleet=process.view,
        )


def _of(process: Process) -> tuple[ProcessState, str | None]:
    if process.asked is not None:
        return ProcessState.DRAINING, process.asked
    state, reasons = standing(process.view)
    return state, "; ".join(reasons) or None


def _of_nobody(place: Place, actor: ChildDocument | None, stopping: bool) -> tuple[ProcessState, str]:
    if stopping:
        return ProcessState.GONE, "the program ends"
    failure = None if actor is None else actor["last_failure"]
    if not place.generation or failure is None:
        return ProcessState.STARTING, "it is being started"
    return ProcessState.BACKING_OFF, failure["text"]
