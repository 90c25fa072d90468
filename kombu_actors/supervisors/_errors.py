"""What supervision raises, and how failures are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._outcome import Failure


class SupervisorError(Exception):
    """Root of every exception of this package."""


class SpecError(SupervisorError, ValueError):
    """A specification contradicts itself, or a call doesn't fit it.  Nothing was started."""


class StartMistake(SpecError):
    """The ``start`` of a ``ChildSpec`` isn't an async function that takes the context; no restart cures that."""


class UnknownChild(SupervisorError, LookupError):
    """No child of that name exists here."""


class ChildStartError(SupervisorError):
    """A dynamic child failed before it was ever READY; ``__cause__`` says how.  It is gone."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"child {path!r} did not start: {why}")
        self.path = path


class UnexpectedReturn(SupervisorError):
    """A PERMANENT child returned; it was to run on, so this costs a restart like any failure."""


class StartTimeout(SupervisorError, TimeoutError):
    """A child was not READY within its ``start_timeout``."""


class ActorDown(SupervisorError):
    """The actor died before it answered, isn't there where nobody waits for it, or is gone for good."""


class MailboxFull(SupervisorError):
    """A message was offered without waiting and the mailbox had no room."""


class AskTimeout(SupervisorError, TimeoutError):
    """No answer came in time.  A message not received yet was withdrawn."""


class SelfStop(SupervisorError):
    """A child tried to wait for its own end, which would never come."""


class Escalation(SupervisorError):
    """A supervisor gave up.  ``__cause__`` is the last failure.

    ``path`` is the supervisor that gave up ("" for the root), ``history`` the failures it has
    seen, oldest first (the last 32).
    """

    def __init__(self, message: str, *, path: str = "", history: tuple[Failure, ...] = ()) -> None:
        super().__init__(message)
        self.path = path
        self.history = history


class RestartLimitExceeded(Escalation):
    """More failures than the restart budget allows."""


class ChildFailed(Escalation):
    """A failure that, by the supervisor's ``escalate`` rule, no restart can cure."""
