"""What publishers are told: each outcome in words, as the exception that is raised for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._values.model import Outcome, Returned
from ..errors import ConnectionBlocked, DeadlineExceeded, PublishRefused, PublishReturned, PublishUnknown
from ..protocols.ledger import Entry

__all__ = [
    "Receipt",
    "RefusalWatcher",
    "Tell",
    "cut_off",
    "destination",
    "given_up",
    "outcome_error",
    "too_late",
    "unconfirmed",
    "unfit",
]

Tell = Callable[[BaseException | None], object]
"""Told what became of a publish: None when it is confirmed, else what ``sending.send`` would raise."""


class RefusalWatcher(Protocol):
    """Hears of an entry and why; ``fatal`` when it ended its channel, or could not be sent at all."""

    def __call__(self, entry: Entry, error: BaseException, *, fatal: bool) -> None: ...


def destination(entry: Entry) -> str:
    """Where a message goes."""
    return f"exchange {entry.exchange!r}, routing key {entry.routing_key!r}"


def outcome_error(entry: Entry, outcome: Outcome, detail: Returned | BaseException | None) -> BaseException:
    """The exception that tells a publisher about an outcome other than CONFIRMED."""
    where = destination(entry)
    if isinstance(detail, BaseException):
        return detail
    if outcome is Outcome.RETURNED:
        text = f"{detail.code} {detail.text}" if detail is not None else "NO_ROUTE"
        return PublishReturned(f"the broker returned the message ({text}): no queue is bound for {where}")
    return PublishRefused(
        f"the broker refused the message to {where} (basic.nack): a queue is over its limit with "
        "x-overflow=reject-publish, or failed while storing it"
    )


def too_late(entry: Entry, timeout: float, blocked: str | None) -> Exception:
    """What a publisher is told whose deadline has passed; ``blocked``: the broker's reason for taking no publishes."""
    where = destination(entry)
    if entry.attempted:
        return PublishUnknown(
            f"no confirm within {timeout:g} s for the message to {where}: the broker may have it; "
            "publishing again may duplicate it"
        )
    if blocked is not None:
        return ConnectionBlocked(f"the broker takes no publishes ({blocked}); not sent: {where}")
    return DeadlineExceeded(f"no session, or no room in the window, within {timeout:g} s; not sent: {where}")


def cut_off(entry: Entry, reason: BaseException) -> PublishUnknown:
    """For what was under way when the connection ended."""
    return PublishUnknown(f"{reason}; the broker may have the message to {destination(entry)}")


def unconfirmed(entry: Entry) -> PublishUnknown:
    """For what was under way when its session ended, to who doesn't wait for the next one."""
    return PublishUnknown(
        f"the session ended before the broker confirmed the message to {destination(entry)}: "
        "the broker may have it; publishing again may duplicate it"
    )


def given_up(entry: Entry, reason: BaseException) -> PublishUnknown:
    """For what was sent again and again, and is not any more."""
    return PublishUnknown(
        f"{entry.tries} sessions or channels ended while the message to {destination(entry)} was under way, the "
        f"last one with: {reason}; the broker may have it, and it is not sent again"
    )


def unfit(error: ValueError) -> PublishRefused:
    """For what was accepted for a session with other limits, and doesn't fit this one's."""
    reason = PublishRefused(f"accepted for a former session, and can't be sent over this one: {error}")
    reason.__cause__ = error
    return reason


class Receipt:
    """What became of a publish, for the thread that has sent it by itself and waits for its outcome.

    Its ``note`` is the entry's watcher until ``Publisher.wait_outcome`` is: the outcome may come before that.
    """

    __slots__ = ("on_outcome", "outcome")

    def __init__(self) -> None:
        self.outcome: tuple[Outcome, Returned | BaseException | None] | None = None
        """How it ended, and what the broker said; None while it is under way."""
        self.on_outcome: Callable[[], object] | None = None
        """Called once it is known, in the runtime's thread.  Whoever sets it looks for the outcome afterwards."""

    def note(self, entry: Entry, result: Outcome, detail: Returned | BaseException | None) -> None:
        """It has its outcome.  Runtime thread."""
        entry.watcher = None
        self.outcome = (result, detail)
        if self.on_outcome is not None:
            self.on_outcome()

    def leave(self, entry: Entry) -> None:
        """Nobody comes: who would have was interrupted.  From now on it is a publish that nobody waits for."""
        if entry.watcher == self.note:
            entry.watcher = None
