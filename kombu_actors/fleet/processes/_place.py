"""A place for a worker process: an actor that fills it, and fills it anew in order or after a death."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ...supervisors import ActorContext
from ...supervisors._interrupts import protected
from ..errors import FleetError
from ._process import Process


@protected
class Replacement:
    """That somebody wants a new process in a place, and what came of it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.over = trio.Event()
        self.failure: str | None = None
        self.old: Process | None = None
        """Who goes."""


@protected
class Place:
    """Owns which process fills it.  Its actor fails with the process that serves; one that drains goes on."""

    def __init__(self, number: int, launch: Callable[[Place], Process]) -> None:
        self.number = number
        self.id = f"process-{number}"
        self.generation = 0
        self.current: Process | None = None
        """The one that serves, or did last."""
        self.living: list[Process] = []
        """With one that is being started, and one that drains."""
        self.was_ready = False
        """Whether any process here has ever been READY."""
        self.rests_until = 0.0
        """When its process may be recycled again, on trio's clock."""
        self._launch = launch
        self._wanted: Replacement | None = None
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self, ctx: ActorContext) -> None:
        """The actor."""
        try:
            with ctx.until_stopping():
                self.current = await self._fill()
                ctx.ready()
                await self._keep(ctx)
            await self._drain(ctx.stop_reason)
        finally:
            # Of those only who drains is left, unless the actor is cancelled: its time is over.
            for process in self.living:
                if process.asked is None or ctx.stopping.is_set():
                    process.kill("its place is given up")

    async def replace(self, reason: str) -> None:
        """Put a new process here, and return when it is READY and the old one has drained.

        Raises ``FleetError`` when the new one ends before; the old one goes on then.  Cancelled, it goes on.
        """
        if self._wanted is None:
            self._wanted = Replacement(reason)
            self._changed.unpark_all()
        wanted = self._wanted
        await wanted.over.wait()
        if wanted.failure is not None:
            raise FleetError(wanted.failure)
        if wanted.old is not None:
            await wanted.old.over.wait()

    def close(self) -> None:
        """The program ends: nobody is replaced any more."""
        self._settle("the program ends")

    def ended(self, process: Process) -> None:
        """A process here is no more."""
        self.living.remove(process)
        self._changed.unpark_all()

    # -- filling it ---------------------------------------------------------------------------

    async def _fill(self) -> Process:
        """A new process, READY; raises ``Died``."""
        self.generation += 1
        process = self._launch(self)
        self.living.append(process)
        await process.settled.wait()
        if process.over.is_set():
            raise process.death()
        self.was_ready = True
        self.rests_until = 0.0
        return process

    async def _keep(self, ctx: ActorContext) -> None:
        """Replace it when that is wanted, until it ends; raises ``Died``.

        What one message has done, which is dead-lettered now, is no failure of the place: it costs no budget, no delay.
        """
        self._settle(None)  # whatever was wanted before, it is new
        while self.current is not None:
            if self._wanted is not None:
                await self._roll(self._wanted, self.current)
            elif self.current.over.is_set():
                if not self.current.explained:
                    raise self.current.death()
                ctx.degraded(f"{self.current.death()}, by a message that is dead-lettered now")
                self.current = await self._fill()
                ctx.ready()
            else:
                await self._changed.park()

    async def _roll(self, wanted: Replacement, old: Process) -> None:
        try:
            self.current = await self._fill()
        except FleetError as error:
            self._settle(f"{error}: its log says why; process {old.number} (pid {old.pid}) goes on")
            return
        wanted.old = old
        old.replaced(self.current, wanted.reason)
        self._settle(None)

    def _settle(self, failure: str | None) -> None:
        if self._wanted is not None:
            self._wanted.failure = failure
            self._wanted.over.set()
            self._wanted = None

    async def _drain(self, reason: str) -> None:
        for process in self.living:
            process.stop(reason)
        while self.living:
            await self._changed.park()
