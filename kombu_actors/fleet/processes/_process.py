"""One worker process, as its parent sees it."""

from __future__ import annotations

import itertools
import os
import select
import signal
import socket
import subprocess
import time
from typing import Protocol, TypedDict

import trio

from ...supervisors._interrupts import protected
from ...supervisors.events import Event
from .._hands import Key, in_hand, shown
from .._standing import standing
from .._telling import FromParent, FromWorker, LeftRecord, Question, Report, StartRecord
from ..documents import CertificateDocument, FleetDocument
from ..errors import FleetError
from ..status import ProcessState
from . import events
from ._frames import BadFrame
from ._link import Link, LinkLost
from ._start import Start

TICK = 1.0
"""Seconds between two looks at whether it has said something."""
START_TICKS = 300
"""Looks without a first word: an import may load a model."""
COLD_GRACE = 5.0
"""Seconds to give messages back after handlers were cancelled."""
ANSWER = 30.0
"""Seconds for the answer to a command: a pause waits for the broker."""
COMMANDS = 256
"""Commands that wait while it doesn't read; it is silent then, and killed."""
SHOWN = 20
"""Messages in hand that an event names."""
LEFTOVERS = 1.0
"""Seconds for reading what it had said when it ended; all of it is there, but a process of its own may hold the end."""


class Died(FleetError):
    """A worker process ended, and nobody had told it to."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Moment(TypedDict):
    """Where and when an event is."""

    path: str
    at: float
    wall: float


class Watcher(Protocol):
    """Who is told of a process."""

    def heard(self, process: Process, record: Report) -> None:
        """It said something."""

    def happened(self, process: Process, event: Event) -> None:
        """Something happened to it."""

    def asked(self, process: Process, question: Question) -> None:
        """It asks about a message (see ``_inquiry``)."""

    def left(self, process: Process, said: LeftRecord) -> None:
        """It has done with one."""

    def ended(self, process: Process) -> None:
        """It is no more."""


@protected
class Process:
    """Owns the process: ``run`` lives as long as it does, and no longer."""

    def __init__(self, start: Start, watcher: Watcher, path: str) -> None:
        self.start = start
        self.number, self.generation = start.number, start.generation
        self.pid: int | None = None
        self.code: int | None = None
        """Its exit code, when it has ended; below 0 the signal that killed it."""
        self.began = trio.current_time()
        self.heard_at = self.began
        self.view: FleetDocument | None = None
        """Its ``FleetView`` as last heard of, as a dict."""
        self.rss = 0
        self.lag = 0.0
        self.certificate: CertificateDocument | None = None
        self.in_hand: list[Key] = []
        """Messages that it had in hand when it died, and jobs."""
        self.explained = False
        """Whether it is known which message killed it: then it need not happen again."""
        self.paused = set(start.paused)
        """The queues that it was told to pause."""
        self.was_ready = False
        self.asked: str | None = None
        """Why it was told to end; None: it wasn't."""
        self.settled = trio.Event()
        """It has been READY, or has ended."""
        self.over = trio.Event()
        """It has ended."""
        self._watcher = watcher
        self._path = path
        self._words = 0
        self._silent = False
        self._failure: OSError | None = None
        """Why it could not be started."""
        self._sock: socket.socket | None = None
        self._hands = -1
        """The descriptor of the memory in which it notes what is in hand."""
        self._life = trio.CancelScope()
        """Its end, by deadline too, is the process's by kill -9."""
        self._to_send, self._sending = trio.open_memory_channel[StartRecord | FromParent](COMMANDS)
        self._ids = itertools.count(1)
        self._answers: dict[int, str | None] = {}
        """Of commands whose asker has not looked yet."""
        self._answered = trio.lowlevel.ParkingLot()

    # -- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Start it, and wait until it has ended.  Shielded: only ``stop`` and ``kill`` end it."""
        with trio.CancelScope(shield=True):
            await self._run()

    async def _run(self) -> None:
        try:
            sock, process = self._spawn()
        except OSError as error:
            self._failure = error
            self._ended()
            return
        self.pid = process.pid
        self._sock = sock
        pidfd = os.pidfd_open(process.pid)
        self._tell(events.ProcessStarted(**self._now(), pid=process.pid, generation=self.generation))
        link = Link[FromWorker](sock)
        try:
            async with trio.open_nursery() as nursery:
                read = trio.Event()
                nursery.start_soon(self._read, link, read)
                nursery.start_soon(self._send, link)
                nursery.start_soon(self._watch)
                with self._life:
                    await trio.lowlevel.wait_readable(pidfd)
                process.kill()  # does nothing when it has ended
                await trio.lowlevel.wait_readable(pidfd)
                with trio.move_on_after(LEFTOVERS):
                    await read.wait()
                nursery.cancel_scope.cancel(reason="the process has ended")
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await trio.lowlevel.wait_readable(pidfd)
            self.code = process.wait()
            self.in_hand = in_hand(os.pread(self._hands, os.fstat(self._hands).st_size, 0))
            os.close(self._hands)
            os.close(pidfd)
            link.close()
            self._ended()

    def _spawn(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """Here and not in a worker thread, with whose end the kernel would take it for an orphan (``prctl(2)``)."""
        ours, theirs = socket.socketpair()
        self._hands = os.memfd_create("kombu_actors")
        task = self.start.task
        try:
            process = subprocess.Popen(
                [*task.command, str(theirs.fileno()), task.fleet, str(self.number)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._hands),
                start_new_session=True,  # Ctrl-C is for the parent, which then stops it in order
            )
        except BaseException:
            ours.close()
            os.close(self._hands)
            raise
        finally:
            theirs.close()
        self.post(self.start.to_dict(self._hands))
        return ours, process

    def _ended(self) -> None:
        if self.asked is None:
            names = tuple(shown(key) for key in self.in_hand[:SHOWN])
            why = str(self.death())
            self._tell(events.ProcessDied(**self._now(), pid=self.pid, code=self.code, why=why, in_hand=names))
        else:
            made = self.certificate
            self._tell(events.ProcessEnded(**self._now(), pid=self.pid, code=self.code, certificate=made))
        self.over.set()
        self.settled.set()
        self._answered.unpark_all()
        self._watcher.ended(self)

    @property
    def how(self) -> str:
        """In what way it ended."""
        code = self.code or 0
        if self._failure is not None:
            return f"could not be started: {self._failure}"
        if self._silent:
            return f"said nothing for {self.start.silence:g} s, being stopped or blocked, and was killed"
        if code < 0:
            return f"was killed by signal {-code} ({_signal_name(-code)})"
        return f"ended by itself with exit code {code}"

    def death(self) -> Died:
        """How it ended, as an error."""
        who = f"process {self.number} (pid {self.pid}, generation {self.generation})"
        return Died(f"{who} {self.how}{'' if self.was_ready else ' before it was READY'}", self.code or 0)

    def hangs_up(self) -> bool:
        """Whether it is dying: its end of the socket is closed, which it was before any that a broker sees."""
        if self._sock is None or self.over.is_set():
            return False
        poll = select.poll()
        poll.register(self._sock, 0)  # a hang-up is always told
        return bool(poll.poll(0))

    # -- its end --------------------------------------------------------------------------------

    def stop(self, reason: str, *, at_once: bool = False) -> None:
        """Have it drain, or end at once; it is killed when it hasn't begun yet, or takes too long about the latter."""
        first = self.asked is None
        self.asked = self.asked or reason
        if self.view is None:
            self._life.cancel(reason=reason)
        elif at_once or first:
            self.post({"id": 0, "do": "stop", "arguments": [reason, at_once]})
            if at_once:
                self._life.deadline = min(self._life.deadline, trio.current_time() + COLD_GRACE)

    def kill(self, reason: str) -> None:
        """End it by kill -9."""
        self.asked = self.asked or reason
        self._life.cancel(reason=reason)

    def replaced(self, by: Process, reason: str) -> None:
        """Another one serves in its place: drain."""
        self._tell(events.ProcessReplaced(**self._now(), pid=self.pid or 0, by=by.pid or 0, reason=reason))
        self.stop(f"it is replaced, for {reason}")

    # -- talking --------------------------------------------------------------------------------

    async def ask(self, do: str, *arguments: object) -> None:
        """Have it do something, and wait until it has; a process that ends meanwhile has nothing to do any more.

        Raises ``FleetError``: it can't, or doesn't answer.
        """
        id = next(self._ids)
        self.post({"id": id, "do": do, "arguments": arguments})
        with trio.move_on_after(ANSWER):
            while id not in self._answers and not self.over.is_set():
                await self._answered.park()
            error = self._answers.pop(id, None)
            if error is not None:
                raise FleetError(f"process {self.number}: {error}")
            return
        raise FleetError(f"process {self.number} (pid {self.pid}) has not answered {do!r} within {ANSWER:g} s")

    def post(self, record: StartRecord | FromParent) -> None:
        """Tell it something, without waiting."""
        try:
            self._to_send.send_nowait(record)
        except trio.WouldBlock:
            self._life.cancel(reason="it doesn't read")

    async def _send(self, link: Link[FromWorker]) -> None:
        try:
            async for record in self._sending:
                await link.send(record)
        except LinkLost:
            return  # its end comes by the pidfd

    async def _read(self, link: Link[FromWorker], over: trio.Event) -> None:
        try:
            async for record in link:
                self._heard(record)
        except BadFrame as error:
            self._life.cancel(reason=f"it sent {error}")
        over.set()

    def _heard(self, record: FromWorker) -> None:
        if "ask" in record:
            self._watcher.asked(self, record)
            return
        if "left" in record:
            self._watcher.left(self, record)
            return
        if "reply" in record:
            if record["reply"]:
                self._answers[record["reply"]] = record["error"]
                self._answered.unpark_all()
            return
        self._words += 1
        self.heard_at = trio.current_time()
        self.rss, self.lag = record["rss"], record["lag"]
        self.view = record.get("view", self.view)
        self.certificate = record.get("certificate")
        if not self.was_ready and standing(self.view)[0] is ProcessState.READY and self.pid is not None:
            self.was_ready = True
            self.settled.set()
            self._tell(events.ProcessReady(**self._now(), pid=self.pid, seconds=self.heard_at - self.began))
        self._watcher.heard(self, record)

    async def _watch(self) -> None:
        """Counted in looks, not in seconds: a parent that was itself stopped accuses nobody."""
        silent = 0
        while True:
            words = self._words
            await trio.sleep(TICK)
            silent = silent + 1 if words == self._words else 0
            if silent * TICK >= (self.start.silence if words else START_TICKS) and self.pid is not None:
                self._silent = True
                self._tell(events.ProcessSilent(**self._now(), pid=self.pid, seconds=silent * TICK))
                self._life.cancel(reason="it is silent")
                return

    def _tell(self, event: Event) -> None:
        self._watcher.happened(self, event)

    def _now(self) -> Moment:
        return {"path": self._path, "at": trio.current_time(), "wall": time.time()}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
