"""A fleet as it runs, in one process or several: what status, pages, metrics and commands ask and tell."""

from __future__ import annotations

import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import trio

from ..supervisors import EventStream
from ..supervisors._interrupts import guarded
from ..supervisors.events import Event
from ._lag import Lag
from ._standing import standing, worst
from .certificate import Certificate
from .documents import ChildDocument, FleetDocument
from .errors import FleetError
from .fleet import Fleet
from .status import ProcessState, ProcessStatus, Status
from .totals import Totals

__all__ = ["EVENTS", "Happened", "Program", "Reloads", "SingleProcess"]

EVENTS = 1024
"""Events that wait for a reader: as those of ``Fleet.events``."""


class Happened(Event):
    """What happened in one of a program's processes."""

    process: int | None
    """The place of the process, from 1; None: in the parent."""
    record: Mapping[str, Any]
    """The event there, as ``Event.to_dict()``."""

    def to_dict(self) -> dict[str, Any]:
        """The event's own record, and which process it comes from."""
        return {**self.record, "process": self.process}


@attrs.define
class Reloads:
    """Of all processes."""

    begun: int = 0
    """So many since the program began."""
    under_way: int = 0


class Program(ABC):
    """A fleet that runs.  All belongs to the trio program it runs in: call nothing from another thread."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        """The fleet as registered: for clients and dead letters."""
        self.began_at = time.time()
        self.certificate: Certificate | None = None
        """What ``run`` has returned."""
        self.reloads = Reloads()
        self._streams: list[EventStream] = []

    # -- its life -----------------------------------------------------------------------------

    @abstractmethod
    async def run(
        self,
        *,
        signals: bool = True,
        certificate: Path | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> Certificate:
        """As ``Fleet.run``: handle messages until a signal, ``stop``, or cancellation."""

    @abstractmethod
    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Have ``run`` end: drain, or cancel the handlers."""

    @abstractmethod
    async def reload(self) -> None:
        """Replace each process by a new one, one after the other: first the new one is READY, then the old one drains.

        Raises ``FleetError`` where there is no parent that could.
        """

    # -- seeing it ------------------------------------------------------------------------------

    @abstractmethod
    def processes(self) -> tuple[ProcessStatus, ...]:
        """How each process stands."""

    def tree(self) -> ChildDocument | None:
        """The parent's own supervision tree."""
        return None

    @abstractmethod
    def totals(self) -> Totals:
        """What its processes have counted since it began."""

    def status(self) -> Status:
        """How all of it stands."""
        processes = self.processes()
        return Status(
            fleet=self.fleet.name,
            version=version("kombu-actors"),
            host=socket.gethostname(),
            pid=os.getpid(),
            began_at=self.began_at,
            at=time.time(),
            state=worst(processes),
            reasons=tuple(f"process {one.number}: {one.why}" for one in processes if one.why is not None),
            processes=processes,
            tree=self.tree(),
            reloads=self.reloads.begun,
            reloading=self.reloads.under_way > 0,
            totals=self.totals(),
        )

    @guarded
    async def events(self, capacity: int = EVENTS) -> AsyncIterator[EventStream]:
        """``async with program.events() as stream``: ``Happened`` records from now on, also before ``run`` begins.

        A reader that falls behind loses the oldest.
        """
        stream = EventStream(capacity)
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            stream.end()

    def tell(self, event: Happened) -> None:
        """Pass an event on to whoever listens."""
        for stream in self._streams:
            stream.push(event)

    # -- steering it ----------------------------------------------------------------------------

    @abstractmethod
    async def pause(self, queue: str) -> None:
        """As ``Fleet.pause``, in every process; one that is started later pauses, too."""

    @abstractmethod
    async def resume(self, queue: str) -> None:
        """As ``Fleet.resume``, in every process."""

    @abstractmethod
    async def restart(self, path: str, process: int | None = None) -> None:
        """Restart an actor by hand, with its group and off its budget, at once; None: in every process.

        Raises ``FleetError`` when there is none at ``path``.
        """


class SingleProcess(Program):
    """A fleet in this very process; ``paused`` and ``wait_for_broker`` are those of ``Fleet.run``."""

    def __init__(self, fleet: Fleet, *, paused: Collection[str] = (), wait_for_broker: bool = False) -> None:
        super().__init__(fleet)
        self._paused = paused
        self._wait_for_broker = wait_for_broker
        self._lag = Lag()
        self._state, self._since = ProcessState.STARTING, self.began_at
        self._over = False
        self._seen: FleetDocument | None = None

    async def run(
        self,
        *,
        signals: bool = True,
        certificate: Path | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> Certificate:
        """As ``Fleet.run``."""
        trio.lowlevel.add_instrument(self._lag)
        try:
            self.certificate = await self.fleet.run(
                signals=signals,
                certificate=certificate,
                listener=self._heard,
                paused=self._paused,
                wait_for_broker=self._wait_for_broker,
                task_status=task_status,
            )
        finally:
            self._over = True
            trio.lowlevel.remove_instrument(self._lag)
        return self.certificate

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Drain, or cancel the handlers."""
        if at_once:
            self.fleet.stop(reason)
        else:
            self.fleet.drain(reason)

    async def reload(self) -> None:
        """There is no parent: raises ``FleetError``."""
        raise FleetError(
            f"fleet {self.fleet.name!r} runs in one process, which can't replace itself: run it with --processes 1"
        )

    def processes(self) -> tuple[ProcessStatus, ...]:
        """This one."""
        view: FleetDocument | None
        try:
            view = self._seen = self.fleet.snapshot().to_dict()
        except FleetError:
            view = None
        state, reasons = (ProcessState.GONE, ("it has ended",)) if self._over else standing(view)
        if state is not self._state:
            self._state, self._since = state, time.time()
        return (
            ProcessStatus(
                number=1,
                pid=os.getpid(),
                generation=1,
                state=state,
                why="; ".join(reasons) or None,
                since=self._since,
                rss=resident(),
                loop_lag=self.loop_lag,
                fleet=view,
            ),
        )

    def totals(self) -> Totals:
        """Of the fleet's only run, as ``processes`` saw it last: so they don't go back when it has ended."""
        return Totals() if self._seen is None else Totals.of(self._seen)

    @property
    def loop_lag(self) -> float:
        """Seconds that its event loop has been late lately, at most."""
        return self._lag.seconds

    async def pause(self, queue: str) -> None:
        """As ``Fleet.pause``."""
        await self.fleet.pause(queue)

    async def resume(self, queue: str) -> None:
        """As ``Fleet.resume``."""
        self.fleet.resume(queue)

    async def restart(self, path: str, process: int | None = None) -> None:
        """As ``Fleet.restart``."""
        if process not in (None, 1):
            raise FleetError(f"fleet {self.fleet.name!r} has no process {process}: it runs in one")
        await self.fleet.restart(path)

    def _heard(self, event: Event) -> None:
        if self._streams:
            self.tell(Happened(path=event.path, at=event.at, wall=event.wall, process=1, record=event.to_dict()))


def resident() -> int:
    """Memory that this process keeps, in bytes (``proc(5)``, statm); 0 where the system doesn't tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
