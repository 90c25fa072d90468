"""The parent's half of finding out which message kills processes: it counts deaths, and answers its workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import trio

from ...supervisors._interrupts import protected
from .._hands import Key, shown
from .._telling import LeftRecord, Question
from ._process import SHOWN, Process
from ._suspects import Suspects

logger = logging.getLogger("kombu_actors.fleet")


@protected
class Inquiry:
    """Owns the suspects, and whose turn it is to be alone: one process at a time holds everything else back."""

    def __init__(self, deaths: int, living: Callable[[], Collection[Process]]) -> None:
        self._suspects = Suspects(deaths)
        self._living = living
        self._alone: Process | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def died(self, process: Process) -> None:
        """A process is no more; when nobody had told it to end, what it had in hand is suspect."""
        if self._alone is process:
            self._free()
        if process.asked is None and process.in_hand:
            process.explained = self._suspects.died(process.in_hand, process.how)
            names = [shown(key) for key in process.in_hand]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            logger.warning("in hand when process %d died: %s%s", process.number, ", ".join(names[:SHOWN]), more)

    def buried(self, key: Key) -> None:
        """A message is in the dead letters: should it be replayed, it begins anew."""
        self._suspects.survived(key)

    async def answer(self, process: Process, question: Question) -> None:
        """A process asks about a message that came again; it is answered when all deaths so far are known."""
        for other in self._living():
            if other is not process and other.hangs_up():
                await other.over.wait()
        key: Key = question["queue"], question["message"]
        verdict = self._suspects.verdict(key)
        if verdict.alone:
            while self._alone is not None and not process.over.is_set():
                await self._changed.park()
            if process.over.is_set():
                return
            self._alone = process
        process.post(
            {
                "answer": question["ask"],
                "queue": key[0],
                "message": key[1],
                "deaths": verdict.deaths,
                "alone": verdict.alone,
                "condemned": verdict.condemned,
            }
        )

    def left(self, process: Process, said: LeftRecord) -> None:
        """A process has done with a suspect, or has not begun it."""
        queue, name = said["left"]
        if said["survived"]:
            self._suspects.survived((queue, name))
        if said["alone"] and self._alone is process:
            self._free()

    def _free(self) -> None:
        self._alone = None
        self._changed.unpark_all()
