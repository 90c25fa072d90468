"""Putting new processes in the places of old ones, one at a time."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from ...supervisors._interrupts import protected
from ..documents import FleetDocument
from ..errors import FleetError
from ..program import Reloads
from ._place import Place
from ._process import Process
from .recycling import Recycling

logger = logging.getLogger("kombu_actors.fleet")

PAUSE = 30.0
"""Seconds until a process that is due and still there is recycled again: its successor was not READY."""


@protected
class Replacing:
    """Owns whose turn it is, and how far below its limits each process is recycled."""

    def __init__(
        self, fleet: str, places: Sequence[Place], recycling: Recycling, rng: random.Random, reloads: Reloads
    ) -> None:
        self._fleet = fleet
        self._places = places
        self._recycling = recycling
        self._rng = rng
        self._draws: dict[Process, float] = {}
        self._turn = trio.Lock()
        self._reloads = reloads

    def began(self, process: Process) -> None:
        """A process was started: draw its limits."""
        self._draws[process] = self._rng.random()

    def ended(self, process: Process) -> None:
        """It is no more."""
        del self._draws[process]

    async def replace(self, places: Sequence[Place], reason: str) -> None:
        """One after the other; the first one that fails ends it, with a ``FleetError``, and the rest stay."""
        async with self._turn:
            for place in places:
                await place.replace(reason)

    async def reload(self, reason: str) -> None:
        """Replace all of them; raises as ``replace``."""
        self._reloads.begun += 1
        self._reloads.under_way += 1
        try:
            await self.replace(self._places, reason)
        finally:
            self._reloads.under_way -= 1

    async def reload_unattended(self, reason: str) -> None:
        """As ``reload`` for whom nobody waits."""
        with self._logged():
            await self.reload(reason)

    async def replace_unattended(self, places: Sequence[Place], reason: str) -> None:
        """As ``replace`` for whom nobody waits: a failure is logged."""
        with self._logged():
            await self.replace(places, reason)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        try:
            yield
        except FleetError as error:
            logger.error("fleet %r goes on with its old processes: %s", self._fleet, error)  # noqa: TRY400

    def due(self, process: Process) -> tuple[Place, str] | None:
        """The place in which to replace it now, and why; None: it stays."""
        place, now = self._places[process.number - 1], trio.current_time()
        if process is not place.current or process.asked is not None or now < place.rests_until:
            return None
        why = self._recycling.due(
            messages=handled(process.view), memory=process.rss, age=now - process.began, draw=self._draws[process]
        )
        if why is None:
            return None
        place.rests_until = now + PAUSE
        return place, why


def handled(view: FleetDocument | None) -> int:
    """Messages that a process has handled."""
    counts = [] if view is None else [consumer["count"] for consumer in view["consumers"]]
    return sum(count["received"] - count["returned"] for count in counts)
