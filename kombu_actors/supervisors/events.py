"""What happened, as frozen records: the source of logs, metrics, status pages and tests."""

from __future__ import annotations

import re
import traceback

from .._frozen import Frozen
from ._outcome import Failure

STACK_FRAMES, STACK_MAX = 12, 4096
"""Frames and characters of a failure's stack as JSON: it goes to logs, pages, and from process to process."""


def describe(error: BaseException | None) -> dict[str, str] | None:
    """An error as JSON: its class and its text."""
    return None if error is None else {"type": type(error).__name__, "text": str(error)}


def stack_of(error: BaseException) -> str:
    """Where an error was raised, as JSON: the end of its traceback, without its text."""
    return "".join(traceback.format_tb(error.__traceback__, -STACK_FRAMES))[-STACK_MAX:]


class Event(Frozen):
    """Common to all: where and when.  ``path`` is the child's, or the supervisor's own ("": the root).

    A kind of your own is a subclass with annotations: ``class Measured(Event): seconds: float``.  They become arguments
    by name.
    """

    path: str
    at: float
    """Monotonic seconds (``trio.current_time``)."""
    wall: float
    """Seconds since the epoch (``time.time``), for people."""
    epoch: int = 0
    """Which incarnation of the child, from 1."""
    attempt: int = 0
    """1 for a fresh start, 2 for the first retry in a row, ...; of a failure: failures in a row."""
    budget_left: int | None = None
    """Restarts that the supervisor may still make in the window; None: any number."""

    def to_dict(self) -> dict[str, object]:
        """The record as JSON-able values, its kind in snake case under ``event``."""
        record: dict[str, object] = {"event": re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()}
        for name in self.fields:
            record[name] = _plain(getattr(self, name))
        return record


def _plain(value: object) -> object:
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, Failure):
        return {"path": value.path, "epoch": value.epoch, "at": value.at, "error": describe(value.error)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


class ChildStarting(Event):
    """A new incarnation begins."""


class ChildReady(Event):
    """The child says that it serves."""


class ChildRestarted(Event):
    """A child that had gone down serves again; follows its ``ChildReady``."""

    downtime: float


class ChildDegraded(Event):
    """The child serves, but says that it isn't well."""

    why: str


class ChildFailed(Event):
    """The child raised.  What follows, if anything, is the next event."""

    error: BaseException

    def to_dict(self) -> dict[str, object]:
        """With the end of the traceback, as ``stack``."""
        return {**super().to_dict(), "stack": stack_of(self.error)}


class ChildBackingOff(Event):
    """The child (and its group) is started again at ``next_at``, or ``delay`` seconds after its group is down."""

    delay: float
    next_at: float


class CoolingDown(ChildBackingOff):
    """The restart budget was spent; the supervisor waits and then goes on with a fresh one."""


class GroupRestarted(Event):
    """``members`` are stopped in reverse order and, unless TEMPORARY, started again together with ``root``."""

    root: str
    members: tuple[str, ...]


class LimitReached(Event):
    """A failure met an empty restart budget."""


class ChildStopped(Event):
    """An incarnation ended because it was asked to."""

    reason: str


class ChildReturned(Event):
    """A child that was to run on returned; it is started again."""


class ChildCompleted(Event):
    """The child's work is done; it is never started again."""


class ChildGone(Event):
    """The child is gone for good."""

    fate: str


class ChildStuck(Event):
    """The child was cancelled and is still there; ``stack`` is where it waits."""

    stack: tuple[str, ...]


class ReplyDropped(Event):
    """An incarnation that is gone answered; the asker was told ``ActorDown`` before."""

    count: int


class Escalated(Event):
    """The supervisor gives up: it stops its children in order, and fails."""

    error: BaseException
    history: tuple[Failure, ...]


class SupervisorStopping(Event):
    """The supervisor begins to stop its children, youngest first."""

    reason: str


class SupervisorStopped(Event):
    """No child of the supervisor is left."""


class DeadlinePassed(Event):
    """The ordered stop took too long: every child left is cancelled now."""

    left: tuple[str, ...]
