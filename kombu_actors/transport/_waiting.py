"""What tasks of one link wait for: replies, work to send, leave to read, the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from ..errors import ConnectionLost

__all__ = ["EndedByCall", "Ending", "OneLife", "Outbox", "PendingReply", "ReadGate"]

T = TypeVar("T")


class EndedByCall(ConnectionLost):
    """The broker ended the connection over this very call (540, 503, ...): ``__cause__`` is its answer."""


class Ending:
    """How something ended, once: the first reason stays."""

    __slots__ = ("_waiting", "reason", "watcher")

    def __init__(self) -> None:
        self.reason: BaseException | None = None
        self.watcher: Callable[[], object] | None = None
        self._waiting: trio.Event | None = None
        """There while somebody waits."""

    def happen(self, reason: BaseException) -> None:
        """It ended now, for this reason, unless it ended before."""
        if self.reason is None:
            self.reason = reason
            if self._waiting is not None:
                self._waiting.set()

    def announce(self) -> None:
        """Tell the watcher, once, when all that the end means here has been done."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher()

    async def wait(self) -> BaseException:
        """Wait for the end and say why."""
        if self.reason is None:
            if self._waiting is None:
                self._waiting = trio.Event()
            await self._waiting.wait()
        else:
            await trio.lowlevel.checkpoint()
        assert self.reason is not None
        return self.reason

    def check(self) -> None:
        """Raise the reason, if it has ended."""
        if self.reason is not None:
            # One reason is raised to many: their tracebacks must not pile up on it.
            raise self.reason.with_traceback(None)


class OneLife:
    """What lives once, a link or a channel: when it is dead, another is made."""

    __slots__ = ("_ending",)

    def __init__(self) -> None:
        self._ending = Ending()

    @property
    def closed(self) -> BaseException | None:
        """Why it is dead; None while it lives."""
        return self._ending.reason

    def on_closed(self, watcher: Callable[[], object] | None) -> None:
        """Have ``watcher`` called when it dies, where that is said; see ``transport._contract.LinkChannel``."""
        self._ending.watcher = watcher

    async def wait_closed(self) -> BaseException:
        """Wait until it is dead and say why."""
        return await self._ending.wait()


class Outbox:
    """Wakes the one writer; the bytes themselves are in the engine."""

    def __init__(self) -> None:
        self.sending = False
        self._parked: trio.lowlevel.Task | None = None

    def wake(self) -> None:
        """There is something to send, or the end has come."""
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    async def wait(self) -> None:
        """Wait to be woken."""

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(give_up)


class ReadGate:
    """Where the reader waits while it rests."""

    def __init__(self) -> None:
        self.rest = 0.0
        """Seconds for which it shall rest before each read, at most."""
        self._nudged: trio.Event | None = None

    @property
    def paused(self) -> bool:
        """Whether it shall rest at all."""
        return self.rest > 0

    @property
    def resting(self) -> bool:
        """Whether it is waiting here."""
        return self._nudged is not None

    def resume(self) -> None:
        """Have it rest no more."""
        self.rest = 0.0
        self.nudge()

    def nudge(self) -> None:
        """Let the reader look again whether it may read."""
        if self._nudged is not None:
            self._nudged.set()
            self._nudged = None

    async def wait(self, seconds: float) -> bool:
        """Wait for a nudge; False when none came within ``seconds``."""
        nudged = self._nudged = trio.Event()
        try:
            with trio.move_on_after(seconds):
                await nudged.wait()
        finally:
            self._nudged = None
        return nudged.is_set()


class PendingReply(Generic[T]):
    """The token of one request.  The engine pairs it with its reply, in order.

    A cancelled request leaves it behind as a tombstone: the late reply is consumed here, and
    ``undo`` takes back what it granted.
    """

    def __init__(
        self,
        *,
        applied: Callable[[T], None] | None = None,
        undo: Callable[[T], None] | None = None,
    ) -> None:
        self._applied = applied
        self._undo = undo
        self._settled = trio.Event()
        self._given_up = False
        self._reply: T
        self._error: BaseException | None = None

    def resolve(self, reply: T) -> None:
        """Hand over the reply; ``applied`` or ``undo`` run before anything that came after it."""
        self._reply = reply
        act = self._undo if self._given_up else self._applied
        if act is not None:
            act(reply)
        self._settled.set()

    def fail(self, error: BaseException) -> None:
        """There will be no reply; the first reason stays."""
        self._error = self._error or error
        self._settled.set()

    async def wait(self) -> T:
        """Wait for the reply; raise the error that took its place."""
        try:
            await self._settled.wait()
        except BaseException:
            self._given_up = True
            if self._settled.is_set() and self._undo is not None and self._error is None:
                self._undo(self._reply)
            raise
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._reply
