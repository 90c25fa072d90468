"""How a child ended, and what is at the bottom of a failure."""

from __future__ import annotations

import trio

from .._frozen import Record
from ._errors import ChildStartError, Escalation


class Returned(Record):
    """The child's ``start`` returned by itself."""

    value: object = None


class Failed(Record):
    """The child raised; of a group ``error`` is the decisive leaf, ``leaves`` all of them."""

    error: BaseException
    leaves: tuple[BaseException, ...] = ()

    def whole(self) -> BaseException:
        """The error; of several leaves a group of them all, the decisive one first."""
        others = [leaf for leaf in self.leaves if leaf is not self.error]
        if not others:
            return self.error
        return BaseExceptionGroup(f"{len(others) + 1} failures at once", [self.error, *others])


class Stopped(Record):
    """The child was asked to stop and did."""

    reason: str = ""


Outcome = Returned | Failed | Stopped


class Failure(Record):
    """One failure in a supervisor's history."""

    path: str
    epoch: int
    at: float
    """Monotonic seconds (``trio.current_time``)."""
    error: BaseException
    """Of several at once a group of them all, the decisive one first."""


def leaves(error: BaseException) -> tuple[BaseException, ...]:
    """The exceptions an error consists of, without ``trio.Cancelled``, groups taken apart."""
    if isinstance(error, BaseExceptionGroup):
        return tuple(leaf for part in error.exceptions for leaf in leaves(part))
    return () if isinstance(error, trio.Cancelled) else (error,)


def root_cause(error: BaseException) -> BaseException:
    """The failure underneath escalations, start errors and groups.

    Of a group with several leaves the first one counts; a bare cancellation is its own cause.
    """
    seen: set[int] = set()
    while id(error) not in seen:  # a chain of causes may be a ring
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            parts = leaves(error)
            if not parts:
                return error
            error = parts[0]
        elif isinstance(error, (Escalation, ChildStartError)) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error
    return error
