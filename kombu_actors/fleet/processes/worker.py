"""The worker's side: a fleet in this process, which tells its parent how it stands, and does what that says."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import trio

from ...supervisors._interrupts import protected
from .._custody import Custody
from .._telling import Command, FromParent, Report, StartRecord
from ..documents import FleetDocument
from ..errors import FleetError
from ..program import Program, SingleProcess, resident
from ..status import ProcessState
from ._frames import HEAD, BadFrame, Decoder
from ._link import Link, LinkLost
from ._parent_death import die_with_parent

__all__ = ["BadFrame", "Reporter", "first_record"]

BEAT = 1.0
"""Seconds between two words to the parent, at most, while there is something to do."""
BEAT_AT_REST = 2.5
"""And while there is nothing: a word costs 0.4 ms, all in all."""
PAUSE = 0.1
"""Seconds between two views, at least: a burst of events is one."""
REFRESH = 10.0
"""Seconds after which a view is made again, though nothing seems to have changed."""
EVENTS = 1024
"""Events that wait while the parent doesn't read; the oldest go first."""
GOODBYE = 2.0
"""Seconds for the certificate to be taken."""
ORPHAN_GRACE = 1.0
"""Seconds to give messages back when the parent is gone, where the kernel has not ended this process with it."""


def first_record(descriptor: int) -> tuple[socket.socket, StartRecord]:
    """The socket to the parent, and what it said first; raises ``BadFrame`` when it said nothing."""
    os.set_inheritable(descriptor, False)  # processes that handlers start shall not keep it
    sock = socket.socket(fileno=descriptor)
    decoder = Decoder()
    head = sock.recv(HEAD.size, socket.MSG_WAITALL)
    if len(head) == HEAD.size:
        records = decoder.feed(head + sock.recv(HEAD.unpack(head)[0], socket.MSG_WAITALL))
        if records:
            start = cast(StartRecord, records[0])  # the parent is of this version
            die_with_parent(start["parent"])
            return sock, start
    raise BadFrame("the parent is gone")


@protected
class Reporter:
    """Beside a ``SingleProcess`` in a worker, as its companion."""

    def __init__(self, sock: socket.socket, worker: SingleProcess, custody: Custody, *, silence: float) -> None:
        self._sock = sock
        self._patience = silence
        """Seconds without a word that the parent waits."""
        self._worker = worker
        self._custody = custody
        self._events: deque[Mapping[str, object]] = deque(maxlen=EVENTS)
        self._woken = trio.Event()
        self._over = trio.Event()
        self._told: FleetDocument | None = None
        """The view that the parent has."""
        self._looked_at = -REFRESH
        """When that was made, on trio's clock."""
        self._activity: tuple[int, int] | None = None
        """What the fleet had done then; None: it wasn't READY, or not at rest."""

    async def __call__(self, program: Program, *, task_status: trio.TaskStatus[None]) -> None:
        """Report and obey until cancelled, which is when the program has ended; then say goodbye."""
        link = Link[FromParent](self._sock)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, link, program)
                nursery.start_soon(self._ask, link)
                await nursery.start(self._listen, program)
                task_status.started()
                # Shielded: a record that is cut in two would be the last one.
                with trio.CancelScope(shield=True):
                    nursery.start_soon(self._end_when_cancelled)
                    await self._report(link, program)
                nursery.cancel_scope.cancel(reason="the program has ended")
        finally:
            with trio.move_on_after(GOODBYE, shield=True):
                await self._say_goodbye(link, program)
            link.close()

    async def _end_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self._over.set()
            self._woken.set()

    async def _listen(self, program: Program, task_status: trio.TaskStatus[None]) -> None:
        async with program.events(EVENTS) as stream:
            task_status.started()
            async for event in stream:
                record = event.to_dict()
                del record["process"]  # the parent knows
                self._events.append(record)
                self._woken.set()

    async def _report(self, link: Link[FromParent], program: Program) -> None:
        try:
            while not self._over.is_set():
                record = self._record(program)
                await link.send(record)
                with trio.move_on_after(PAUSE):
                    await self._over.wait()
                beat = BEAT if "view" in record else min(BEAT_AT_REST, self._patience / 3)
                with trio.move_on_after(beat - PAUSE):
                    await self._woken.wait()
                self._woken = trio.Event()
        except LinkLost:
            return

    def _record(self, program: Program) -> Report:
        record: Report = {"rss": resident(), "lag": self._worker.loop_lag}
        if not self._is_at_rest():
            (status,) = program.processes()
            if status.fleet is not None and status.fleet != self._told:
                record["view"] = self._told = status.fleet
            self._looked_at = trio.current_time()
            self._activity = self._worker.fleet.activity() if status.state is ProcessState.READY else None
        if self._events:
            record["events"] = [*self._events]
            self._events.clear()
        return record

    def _is_at_rest(self) -> bool:
        """Whether a view would say what the last one said: to make one is what costs an idle worker most."""
        if self._events or self._activity is None or trio.current_time() - self._looked_at > REFRESH:
            return False
        try:
            taken, in_hand = self._worker.fleet.activity()
        except FleetError:
            return False
        return in_hand == 0 and (taken, in_hand) == self._activity

    async def _say_goodbye(self, link: Link[FromParent], program: Program) -> None:
        made = program.certificate
        try:
            await link.send({**self._record(program), "certificate": None if made is None else made.to_dict()})
        except LinkLost:
            return

    async def _ask(self, link: Link[FromParent]) -> None:
        async for record in self._custody.said:
            try:
                with trio.CancelScope(shield=True):
                    await link.send(record)
            except LinkLost:
                return

    # -- commands -------------------------------------------------------------------------------

    async def _obey(self, link: Link[FromParent], program: Program) -> None:
        async with trio.open_nursery() as nursery:
            async for command in link:
                if "answer" in command:
                    self._custody.answered(command)
                    continue
                nursery.start_soon(self._do, link, program, command)
            # The parent is gone.
            self._over.set()
            self._woken.set()
            with contextlib.suppress(FleetError):  # it has ended already
                program.stop("the parent process is gone", at_once=True)
            await trio.sleep(ORPHAN_GRACE)
            os._exit(1)

    async def _do(self, link: Link[FromParent], program: Program, command: Command) -> None:
        what: dict[str, Callable[..., Awaitable[None]]] = {
            "pause": program.pause,
            "resume": program.resume,
            "restart": program.restart,
        }
        error: str | None = None
        try:
            if command["do"] == "stop":
                reason, at_once = command["arguments"]
                program.stop(str(reason), at_once=bool(at_once))
            else:
                await what[command["do"]](*command["arguments"])
        except FleetError as problem:
            error = str(problem)
        try:
            with trio.CancelScope(shield=True):
                await link.send({"reply": command["id"], "error": error})
        except LinkLost:
            return
