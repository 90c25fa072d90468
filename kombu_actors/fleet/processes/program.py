"""The parent: a fleet in worker processes, which it supervises."""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from pathlib import Path

import trio

from ...errors import BrokerUnreachable
from ...supervisors import (
    Backoff,
    ChildSpec,
    Escalation,
    RestartLimit,
    Supervisor,
    SupervisorError,
    SupervisorSpec,
    open_supervisor,
    root_cause,
)
from ...supervisors._interrupts import protected
from ...supervisors.events import Event
from ...utils.dice import new_dice
from .._running import write_certificate
from .._telling import LeftRecord, Question, Report
from .._tree import GOODBYES
from ..certificate import Certificate
from ..documents import ChildDocument
from ..errors import FleetError, FleetMistake
from ..fleet import Fleet
from ..program import Happened, Program
from ..status import ProcessStatus
from ..totals import Totals
from ._accounts import Accounts
from ._inquiry import Inquiry
from ._place import Place
from ._process import Died, Process
from ._replacing import Replacing
from ._signals import obey_signals
from ._start import Start
from ._statuses import Statuses
from ._suspects import DEATHS
from .recycling import Recycling
from .task import Task

__all__ = ["RESTARTS", "SILENCE", "Processes"]

logger = logging.getLogger("kombu_actors.fleet")

SILENCE = 10.0
"""Seconds without a word of a process, after which it is killed: a second is usual."""
RESTARTS = 5
"""Restarts a minute for each process: half a minute of failing at every start spends them."""
WITHIN = 60.0
BACKOFF = Backoff(maximum=15.0, earned=0.1, earned_after=5.0)
"""At once after a death; at growing delays after one at the start.  Who served for 5 s is no hopeless case."""
SLACK = 2.0
"""Seconds that a worker has for its goodbye beyond its drain, before it is killed."""
USAGE, NO_BROKER = 2, 3
"""Exit codes of workers that say: starting it again won't help."""


@protected
class Processes(Program):
    """A fleet in ``count`` worker processes, each of which runs all its consumers.

    Args:
        fleet: as registered, for clients; the workers import their own.
        task: how a worker finds it.
        count: how many.
        recycling: when one is replaced for its age.
        silence: seconds without a word of a process after which it is killed, and replaced.
        deaths: how often a message may be in hand when a process dies, before it is dead-lettered.
        restarts: how many restarts a minute, for each process, before the program gives up.

    What it does when a process dies, and what it promises, is in ``docs/processes.md``.
    """

    def __init__(
        self,
        fleet: Fleet,
        task: Task,
        count: int,
        *,
        recycling: Recycling | None = None,
        silence: float = SILENCE,
        deaths: int = DEATHS,
        restarts: int = RESTARTS,
    ) -> None:
        if count < 1:
            raise FleetMistake(f"a fleet runs in at least 1 process, not {count}")
        super().__init__(fleet)
        self._task = task
        self._silence = silence
        self._limit = RestartLimit(max_restarts=restarts * count, within=WITHIN)
        self._rng = new_dice()
        self._places = [Place(number, self._launch) for number in range(1, count + 1)]
        self._replacing = Replacing(fleet.name, self._places, recycling or Recycling(), self._rng, self.reloads)
        self._inquiry = Inquiry(deaths, self._living)
        self._accounts = Accounts(fleet.name, self.began_at)
        self._paused: set[str] = set()
        self._stopping = trio.Event()
        self._supervisor: Supervisor | None = None
        self._nursery: trio.Nursery | None = None
        self._statuses = Statuses()

    # -- its life -----------------------------------------------------------------------------

    async def run(
        self,
        *,
        signals: bool = True,
        certificate: Path | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> Certificate:
        """See ``Program.run``: returns when no process is left.

        Raises:
            FleetMistake, BrokerUnreachable: a process said so at its first start; its log says more.
            RestartLimitExceeded: they die again and again.
        """
        try:
            await self._run(signals, task_status)
        except Escalation as error:
            cause = root_cause(error)
            if isinstance(cause, Died) and self._is_hopeless(cause):
                raise (FleetMistake if cause.code == USAGE else BrokerUnreachable)(f"{cause}, and said why") from None
            raise
        finally:
            self.certificate = made = self._accounts.certificate(time.time())
            logger.log(logging.INFO if made.balanced else logging.ERROR, "%s", made)
            if certificate is not None:
                write_certificate(made, certificate)
        return made

    async def _run(self, signals: bool, task_status: trio.TaskStatus[None]) -> None:
        failure: BaseException | None = None
        grace = self.fleet.drain_timeout + GOODBYES + SLACK
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if signals:
                await nursery.start(obey_signals, self.stop, self.hung_up)
            try:
                async with open_supervisor(
                    self._spec(grace), deadline=grace + SLACK, listener=partial(self._tell, None), rng=self._rng
                ) as supervisor:
                    self._supervisor = supervisor
                    nursery.start_soon(self._tell_ready, supervisor, task_status)
                    try:
                        await self._stopping.wait()
                    finally:
                        if not self._stopping.is_set():
                            self.stop("the program's scope was cancelled")
            except (Exception, KeyboardInterrupt) as error:
                failure = error  # bare, not in the nursery's group
            for place in self._places:
                place.close()
            nursery.cancel_scope.cancel(reason="the fleet has stopped")
        if failure is not None:
            raise failure

    def _spec(self, grace: float) -> SupervisorSpec:
        # From a callable, so that they neither start nor stop one after the other.
        return SupervisorSpec(
            id=self.fleet.name.replace("/", "|"),
            limit=self._limit,
            backoff=BACKOFF,
            escalate=self._is_hopeless,
            children=lambda: tuple(
                ChildSpec(id=place.id, start=place.run, start_timeout=None, stop_grace=grace) for place in self._places
            ),
        )

    def _is_hopeless(self, error: BaseException) -> bool:
        """Whether a process said, before any was READY, that starting it again won't help."""
        began = any(place.was_ready for place in self._places)
        return isinstance(error, Died) and error.code in (USAGE, NO_BROKER) and not began

    async def _tell_ready(self, supervisor: Supervisor, task_status: trio.TaskStatus[None]) -> None:
        try:
            await supervisor.wait_ready()
        except SupervisorError:
            return  # whoever waits hears it from the tree itself
        logger.info("fleet %r is READY, in %d processes", self.fleet.name, len(self._places))
        task_status.started()

    def hung_up(self) -> None:
        """HUP: the operator's word to reload; but from a terminal it says that nobody is there any more."""
        if sys.stdin is not None and sys.stdin.isatty():
            self.stop("its terminal was closed")
        elif self._nursery is not None and not self._stopping.is_set():
            self._nursery.start_soon(self._replacing.reload_unattended, "SIGHUP was received")

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Have all processes drain, or cancel their handlers."""
        if not self._stopping.is_set():
            logger.info("fleet %r drains, for at most %g s: %s", self.fleet.name, self.fleet.drain_timeout, reason)
            self._stopping.set()
        if at_once:
            logger.warning("fleet %r ends at once: %s", self.fleet.name, reason)
        for process in self._living():
            process.stop(reason, at_once=at_once)

    # -- replacing ------------------------------------------------------------------------------

    async def reload(self) -> None:
        """See ``Program.reload``; the first one that fails ends it, with a ``FleetError``, and the rest stay."""
        await self._replacing.reload("a reload")

    # -- told by processes, and by their actors ---------------------------------------------------

    def _launch(self, place: Place) -> Process:
        start = Start(
            task=self._task,
            number=place.number,
            generation=place.generation,
            paused=tuple(sorted(self._paused)),
            wait_for_broker=any(one.was_ready for one in self._places),
            silence=self._silence,
        )
        assert self._nursery is not None  # places are filled while it runs
        process = Process(start, self, place.id)
        self._replacing.began(process)
        self._nursery.start_soon(process.run)
        return process

    def heard(self, process: Process, record: Report) -> None:
        """A process said something."""
        for event in record.get("events", ()):
            self.tell(
                Happened(path=event["path"], at=event["at"], wall=event["wall"], process=process.number, record=event)
            )
            if event["event"] == "message_dead_lettered":
                self._inquiry.buried((event["queue"], event["message_id"]))
        self._reconcile(process)
        due = self._replacing.due(process)
        if due is not None and self._nursery is not None and not self._stopping.is_set():
            place, why = due
            self._nursery.start_soon(self._replacing.replace_unattended, [place], why)

    def asked(self, process: Process, question: Question) -> None:
        """A process asks about a message."""
        if self._nursery is not None:
            self._nursery.start_soon(self._inquiry.answer, process, question)

    def left(self, process: Process, said: LeftRecord) -> None:
        """A process has done with a message."""
        self._inquiry.left(process, said)

    def happened(self, process: Process, event: Event) -> None:
        """Something happened to a process."""
        self._tell(process.number, event)

    def ended(self, process: Process) -> None:
        """A process is no more."""
        self._accounts.close(process)
        self._inquiry.died(process)
        self._replacing.ended(process)
        self._places[process.number - 1].ended(process)

    def _tell(self, process: int | None, event: Event) -> None:
        self.tell(Happened(path=event.path, at=event.at, wall=event.wall, process=process, record=event.to_dict()))

    # -- seeing it ------------------------------------------------------------------------------

    def tree(self) -> ChildDocument | None:
        """The places' actors; None before the first start."""
        return None if self._supervisor is None else self._supervisor.snapshot().to_dict()

    def processes(self) -> tuple[ProcessStatus, ...]:
        """One of each place: the one that serves, or is being started."""
        tree = self.tree()
        actors = {} if tree is None else {node["id"]: node for node in tree["children"]}
        return tuple(
            self._statuses.of(place, actors.get(place.id), stopping=self._stopping.is_set()) for place in self._places
        )

    def totals(self) -> Totals:
        """Of all processes, those included that have ended and those that drain."""
        return self._accounts.totals(self._living())

    # -- steering it ----------------------------------------------------------------------------

    async def pause(self, queue: str) -> None:
        """See ``Program.pause``."""
        self._check_queue(queue)
        self._paused.add(queue)
        for process in self._told():
            process.paused.add(queue)
        await self._ask_all("pause", queue)

    async def resume(self, queue: str) -> None:
        """See ``Program.resume``."""
        self._check_queue(queue)
        self._paused.discard(queue)
        for process in self._told():
            process.paused.discard(queue)
        await self._ask_all("resume", queue)

    async def restart(self, path: str, process: int | None = None) -> None:
        """See ``Program.restart``; ``process-2`` is a whole process, which is replaced as by ``reload``."""
        place = next((one for one in self._places if one.id == path), None)
        if place is not None:
            await self._replacing.replace([place], "a restart by hand")
            return
        if process is not None and not 1 <= process <= len(self._places):
            raise FleetError(f"fleet {self.fleet.name!r} has no process {process}: it runs in {len(self._places)}")
        await self._ask_all("restart", path, only=process)

    def _reconcile(self, process: Process) -> None:
        """Pause, or resume, what was paused or resumed when it could not be told yet."""
        if process.view is not None and process.paused != self._paused:
            for queue in process.paused ^ self._paused:
                process.post({"id": 0, "do": "pause" if queue in self._paused else "resume", "arguments": [queue]})
            process.paused = set(self._paused)

    def _check_queue(self, queue: str) -> None:
        if queue not in self.fleet.queues:
            raise FleetError(
                f"fleet {self.fleet.name!r} has no consumer of queue {queue!r}, only of {list(self.fleet.queues)}"
            )

    async def _ask_all(self, do: str, *arguments: object, only: int | None = None) -> None:
        """Ask each process; raises the first ``FleetError`` when all have answered."""
        errors: list[FleetError] = []

        async def ask(one: Process) -> None:
            try:
                await one.ask(do, *arguments)
            except FleetError as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for one in self._told():
                if only in (None, one.number):
                    nursery.start_soon(ask, one)
        if errors:
            raise errors[0]

    def _told(self) -> list[Process]:
        """Those that can do what they are told: a fleet runs there."""
        return [process for process in self._living() if process.view is not None]

    def _living(self) -> list[Process]:
        return [process for place in self._places for process in place.living]
