"""What happened, as frozen records: the source of logs, metrics, status pages and tests."""

from __future__ import annotations

import re
from typing import Any

import attrs

from ._outcome import Failure


def describe(error: BaseException | None) -> dict[str, str] | None:
    """An error as JSON: its class and its text."""
    return None if error is None else {"type": type(error).__name__, "text": str(error)}


@attrs.frozen(kw_only=True)
class Event:
    """Common to all: where and when.  ``path`` is the child's, or the supervisor's own ("": the root)."""

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

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-able values, its kind in snake case under ``event``."""
        record: dict[str, Any] = {"event": re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()}
        for field in attrs.fields(type(self)):
            record[field.name] = _plain(getattr(self, field.name))
        return record


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, Failure):
        return {"path": value.path, "epoch": value.epoch, "at": value.at, "error": describe(value.error)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@attrs.frozen(kw_only=True)
class ChildStarting(Event):
    """A new incarnation begins."""


@attrs.frozen(kw_only=True)
class ChildReady(Event):
    """The child says that it serves."""


@attrs.frozen(kw_only=True)
class ChildRestarted(Event):
    """A child that had gone down serves again; follows its ``ChildReady``."""

    downtime: float


@attrs.frozen(kw_only=True)
class ChildDegraded(Event):
    """The child serves, but says that it isn't well."""

    why: str


@attrs.frozen(kw_only=True)
class ChildFailed(Event):
    """The child raised.  What follows, if anything, is the next event."""

    error: BaseException


@attrs.frozen(kw_only=True)
class ChildBackingOff(Event):
    """The child (and its group) is started again at ``next_at``, or ``delay`` seconds after its group is down."""

    delay: float
    next_at: float


@attrs.frozen(kw_only=True)
class CoolingDown(ChildBackingOff):
    """The restart budget was spent; the supervisor waits and then goes on with a fresh one."""


@attrs.frozen(kw_only=True)
class GroupRestarted(Event):
    """``members`` are stopped in reverse order and, unless TEMPORARY, started again together with ``root``."""

    root: str
    members: tuple[str, ...]


@attrs.frozen(kw_only=True)
class LimitReached(Event):
    """A failure met an empty restart budget."""


@attrs.frozen(kw_only=True)
class ChildStopped(Event):
    """An incarnation ended because it was asked to."""

    reason: str


@attrs.frozen(kw_only=True)
class ChildReturned(Event):
    """A child that was to run on returned; it is started again."""


@attrs.frozen(kw_only=True)
class ChildCompleted(Event):
    """The child's work is done; it is never started again."""


@attrs.frozen(kw_only=True)
class ChildGone(Event):
    """The child is gone for good."""

    fate: str


@attrs.frozen(kw_only=True)
class ChildStuck(Event):
    """The child was cancelled and is still there; ``stack`` is where it waits."""

    stack: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ReplyDropped(Event):
    """An incarnation that is gone answered; the asker was told ``ActorDown`` before."""

    count: int


@attrs.frozen(kw_only=True)
class Escalated(Event):
    """The supervisor gives up: it stops its children in order, and fails."""

    error: BaseException
    history: tuple[Failure, ...]


@attrs.frozen(kw_only=True)
class SupervisorStopping(Event):
    """The supervisor begins to stop its children, youngest first."""

    reason: str


@attrs.frozen(kw_only=True)
class SupervisorStopped(Event):
    """No child of the supervisor is left."""


@attrs.frozen(kw_only=True)
class DeadlinePassed(Event):
    """The ordered stop took too long: every child left is cancelled now."""

    left: tuple[str, ...]
