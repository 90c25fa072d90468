"""One life of an actor: its task, its scope, the ladder from request to cancellation to STUCK."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from ._actor import ActorContext, Hibernation, inside
from ._errors import StartMistake, StartTimeout
from ._interrupts import protected, run_unprotected
from ._mailbox import MailboxReader
from ._outcome import Failed, Outcome, Returned, Stopped, leaves
from ._policy import ChildState
from ._spec import ChildSpec, Start

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import events as news
    from ._cell import Cell
    from ._node import Node
    from ._timers import Timer

_HERE = str(Path(__file__).parent)

CANCEL_WAIT = 1.0
"""Seconds between a cancellation and the report that the child is STUCK: long for a task that
obeys, short for a person who waits."""


def _without(scopes: tuple[trio.CancelScope, ...], scope: trio.CancelScope) -> tuple[trio.CancelScope, ...]:
    """Tuples, because most actors have none at most times, and an empty list of its own takes memory."""
    return tuple(each for each in scopes if each is not scope)


@protected
class UntilStopping:
    """See ``ActorContext.until_stopping``."""

    __slots__ = ("_incarnation", "_scope")

    def __init__(self, incarnation: Incarnation) -> None:
        self._incarnation = incarnation
        self._scope = trio.CancelScope()
        if incarnation.stop_reason is not None:
            self._scope.cancel(reason="the actor is asked to stop")

    def __enter__(self) -> trio.CancelScope:
        self._incarnation._until_stopping += (self._scope,)
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        incarnation = self._incarnation
        incarnation._until_stopping = _without(incarnation._until_stopping, self._scope)
        return self._scope.__exit__(kind, error, traceback)


@protected
class Incarnation:
    """Owned by its supervisor's node; ends exactly once, by reporting to it."""

    __slots__ = (
        "_hurried",
        "_last_words",
        "_life",
        "_scope",
        "_until_stopping",
        "_waited_in",
        "_woken",
        "cell",
        "context",
        "degraded",
        "done",
        "node",
        "spec",
        "stop_reason",
        "task",
        "timer",
        "value",
    )

    def __init__(self, node: Node, cell: Cell, spec: ChildSpec, attempt: int) -> None:
        reader = None
        if cell.mailbox is not None:
            reader = MailboxReader(cell.mailbox, f"epoch {cell.epoch} of actor {cell.path!r}")
        self.node = node
        self.cell = cell
        self.spec = spec
        self.context = ActorContext(
            self, path=cell.path, epoch=cell.epoch, attempt=attempt, previous=cell.previous, reader=reader
        )
        # Shielded: an outer cancellation reaches the tree through its block only, as an ordered stop.
        self._scope: trio.CancelScope | None = trio.CancelScope(shield=True)
        """None while it hibernates."""
        self._life = spec.start
        """What its task runs; while it hibernates, what the next one is going to."""
        self._woken = False
        """Whether it was woken before it hibernates."""
        self.stop_reason: str | None = None
        self.degraded: str | None = None
        self.value: object = None
        self.timer: Timer | None = None
        self.task: trio.lowlevel.Task | None = None
        self.done: Outcome | None = None
        self._waited_in: tuple[str, ...] = ()
        self._last_words: tuple[trio.CancelScope, ...] = ()
        self._until_stopping: tuple[trio.CancelScope, ...] = ()
        self._hurried = False

    def state(self) -> ChildState:
        state = self.node.child_state(self.context.id)
        return ChildState.DEGRADED if state is ChildState.READY and self.degraded is not None else state

    # -- the task -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the task."""
        self._set_timer(self.spec.start_timeout, self._start_expired)
        self.node.tree.spawn(self._run)

    async def _run(self) -> None:
        """Run what the actor is to do; whatever comes of it is reported, nothing is raised."""
        self.task = trio.lowlevel.current_task()
        inside.set((*inside.get(), (self.node.tree, self.cell.path)))
        scope = self._scope
        assert scope is not None
        outcome: Outcome
        try:
            with scope:
                value = await self._enter()
                while isinstance(value, Hibernation):
                    self._life = value.resume
                    if not (self._woken or scope.cancel_called or self.stop_reason is not None):
                        self._scope = self.task = None
                        return
                    self._woken = False
                    value = await self._enter()
            outcome = self._cancelled() if scope.cancelled_caught else self._returned(value)
        except BaseException as error:
            outcome = self._raised(error)
        self._set_timer(None, self._start_expired)
        self.done = outcome
        for monitor in self.context._monitors:
            monitor.cancel()
        if self.context._reader is not None:
            self.context._reader.close()
        self.node.tree.later(self.node.exited, self.cell, outcome)

    def _enter(self) -> Awaitable[object]:
        if self.spec.interruptible:
            return run_unprotected(live, self._life, self.context)
        return live(self._life, self.context)

    def wake(self) -> None:
        """See ``ActorContext.wake``."""
        if self.done is None:
            self._woken = True
            self._rouse()

    def _rouse(self) -> trio.CancelScope:
        """The scope of its task, which it gets when it hibernates."""
        if self._scope is None:
            self._woken = False
            self._scope = trio.CancelScope(shield=True)
            self.node.tree.spawn(self._run)
        return self._scope

    @property
    def overdue(self) -> bool:
        """Whether it was cancelled for not becoming READY in time."""
        return self._scope is not None and self._scope.cancel_called and self.stop_reason is None

    def _returned(self, value: object) -> Outcome:
        if self.overdue:
            return self._cancelled()
        return Returned(value) if self.stop_reason is None else Stopped(self.stop_reason)

    def _cancelled(self) -> Outcome:
        if self.stop_reason is not None:
            return Stopped(self.stop_reason)
        timeout = StartTimeout(
            f"actor {self.cell.path!r} was not READY within {self.spec.start_timeout:g} s; "
            "it may wait for something that never comes, or never call ctx.ready()"
        )
        timeout.add_note("When its time was over it waited in\n" + "\n".join(f"  {line}" for line in self._waited_in))
        return Failed(timeout)

    def _raised(self, error: BaseException) -> Outcome:
        causes = leaves(error)
        if not causes:
            return Failed(RuntimeError(f"actor {self.cell.path!r} was cancelled by itself"))
        for cause in causes:
            _leave_out_ours(cause)
        decisive = next((leaf for leaf in causes if not isinstance(leaf, Exception)), causes[0])
        return Failed(decisive, causes)

    # -- words of the actor ---------------------------------------------------------------------

    def said_ready(self, value: object) -> None:
        if self.done is not None or self.overdue:
            return
        self.value = value
        self.degraded = None
        self.node.tree.later(self.node.child_ready, self.cell)

    def said_degraded(self, why: str) -> None:
        if self.done is None and self.degraded != why:
            self.degraded = why
            self.node.tree.later(self.node.child_degraded, self.cell, why)

    def reported(self, kind: type[news.Event], details: dict[str, object]) -> None:
        if self.done is None:
            self.node.tree.later(self.node.child_reported, self.cell, kind, details)

    def serves(self) -> None:
        """READY: the start timeout is over."""
        self._set_timer(None, self._start_expired)

    # -- the ladder -------------------------------------------------------------------------------

    def ask_to_stop(self, reason: str, *, was_ready: bool) -> None:
        """Let it drain for its grace, then cancel it; at once when it doesn't serve yet."""
        self.stop_reason = reason
        self._tell_stopping()
        self._cancel_in(self.spec.stop_grace if was_ready else 0.0, reason)

    def cancel_now(self, reason: str) -> None:
        """The grace is over, whatever it was, and last words are cut short."""
        self._hurried = True
        for scope in self._last_words:
            scope.cancel(reason=reason)
        if self.stop_reason is None:
            self.stop_reason = reason
            self._tell_stopping()
        if not self._rouse().cancel_called:
            self._cancel_in(0.0, reason)

    def abandon(self, reason: str) -> None:
        """Nobody hears of its end any more: it is cancelled without further ado."""
        self._rouse().cancel(reason=reason)

    @contextmanager
    def last_words(self, seconds: float) -> Iterator[trio.CancelScope]:
        """See ``ActorContext.last_words``."""
        with trio.move_on_after(0.0 if self._hurried else seconds, shield=True) as scope:
            self._last_words += (scope,)
            try:
                yield scope
            finally:
                self._last_words = _without(self._last_words, scope)

    def until_stopping(self) -> UntilStopping:
        """See ``ActorContext.until_stopping``."""
        return UntilStopping(self)

    def _tell_stopping(self) -> None:
        if self.context._stopping is not None:
            self.context._stopping.set()
        for scope in self._until_stopping:
            scope.cancel(reason=self.stop_reason)
        if self.context._reader is not None:
            self.context._reader.stop()

    def stack(self) -> tuple[str, ...]:
        """Where the task waits, outermost first."""
        if self.task is None:
            return ()
        frames = self.task.iter_await_frames()
        return tuple(f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}" for frame, line in frames)

    def _start_expired(self) -> None:
        self._waited_in = self.stack()
        self._cancel_in(0.0, "start timeout")

    def _cancel_in(self, seconds: float, reason: str) -> None:
        scope = self._rouse()
        if seconds > 0.0:
            scope.deadline = trio.current_time() + seconds
        else:
            scope.cancel(reason=f"{reason} ({self.cell.path})")
        self._set_timer(seconds + CANCEL_WAIT, self._stuck)

    def _stuck(self) -> None:
        self.node.tree.later(self.node.child_stuck, self.cell)

    def _set_timer(self, seconds: float | None, call: Callable[[], None]) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if seconds is not None and seconds < math.inf:
            self.timer = self.node.tree.timers.at(trio.current_time() + seconds, call)


def _leave_out_ours(error: BaseException) -> None:
    """Let a traceback begin in the actor's code, not with the calls that lead there."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
        traceback = traceback.tb_next
    if traceback is not None:
        error.__traceback__ = traceback


async def live(start: Start, context: ActorContext) -> object:
    """Call an actor's ``start`` and await what it returns; a mistake in how it was written is told in a sentence."""
    try:
        life: object = start(context)
    except TypeError as error:
        # Raised by the call itself, not in the function: it doesn't take what every actor is given.
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise StartMistake(
                f"start of child {context.path!r} is called with the context, its only argument: {error}"
            ) from error
        raise
    if not isinstance(life, Awaitable):
        raise StartMistake(
            f"start of child {context.path!r} must be an async function (async def); calling it returned {life!r}"
        )
    return await life
