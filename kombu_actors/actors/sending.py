"""Publishing and waiting for the outcome, by a deadline: for tasks of the runtime, and by being told.

The publisher knows of none that waits: an entry's watcher hears its outcome, and the connection has one timer for all
deadlines.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import outcome
import trio

from .._values.model import Outcome, Returned
from ..protocols.ledger import Entry
from .outcomes import Receipt, Tell, outcome_error, too_late
from .publisher import Publisher

__all__ = ["begin", "leave", "send", "wait_outcome"]


@trio.lowlevel.enable_ki_protection
async def send(publisher: Publisher, entry: Entry, timeout: float) -> None:
    """Have one publish accepted and wait ``timeout`` seconds for its outcome.

    Raises:
        ValueError: it fails ``Publisher.check``; nothing was sent.
        PublishReturned, PublishRefused, NotFound, ...: what ``outcome_error`` says.
        PublishUnknown: no outcome in time; the broker may have it.  It is not sent again.
        ConnectionBlocked, DeadlineExceeded: it was never written, and won't be.
        what ``Publisher.end`` was given: it was never written, or had not been accepted.

    Cancellation abandons the entry: it is not sent when it wasn't yet; otherwise its
    outcome is unknown and it is not sent again.
    """
    publisher.check(entry)
    at = trio.current_time() + timeout
    if not publisher.has_room():
        with trio.move_on_at(at):
            await publisher.wait_room()
        if not publisher.has_room() and publisher.ended is None:
            raise too_late(entry, timeout, publisher.blocked_because())
    if publisher.ended is not None:
        raise publisher.ended
    await _settle(publisher, entry, at, timeout, begin=partial(publisher.accept, entry))


@trio.lowlevel.enable_ki_protection
async def wait_outcome(publisher: Publisher, entry: Entry, receipt: Receipt, timeout: float) -> None:
    """``send`` for what ``Publisher.publish_now`` has sent in another thread, with the receipt as its watcher."""
    publisher.take_note()
    if receipt.outcome is None:
        await _settle(publisher, entry, trio.current_time() + timeout, timeout)
        return
    result, detail = receipt.outcome
    if result is not Outcome.CONFIRMED:
        raise outcome_error(entry, result, detail)


@trio.lowlevel.enable_ki_protection
def begin(publisher: Publisher, entry: Entry, timeout: float, tell: Tell) -> None:
    """``send`` without waiting, for who has found room in the window: its end is told, once.

    ``leave`` stands for cancelling it.
    """
    if publisher.ended is not None:
        tell(publisher.ended)
        return
    _watch(publisher, entry, trio.current_time() + timeout, timeout, tell)
    publisher.accept(entry)


@trio.lowlevel.enable_ki_protection
def leave(publisher: Publisher, entry: Entry) -> None:
    """Who began to send it waits no more, and is told nothing; see ``Publisher.abandon``."""
    if entry.watcher is not None:
        publisher.abandon(entry)


def _watch(publisher: Publisher, entry: Entry, at: float, timeout: float, tell: Tell) -> None:
    def settled(entry: Entry, result: Outcome, detail: Returned | BaseException | None) -> None:
        entry.watcher = None
        tell(None if result is Outcome.CONFIRMED else outcome_error(entry, result, detail))

    def expired(entry: Entry) -> None:
        publisher.abandon(entry)
        settled(entry, Outcome.UNKNOWN, too_late(entry, timeout, publisher.blocked_because()))

    entry.watcher = settled
    publisher.deadlines.add(at, entry, expired)


async def _settle(
    publisher: Publisher, entry: Entry, at: float, timeout: float, *, begin: Callable[[], object] | None = None
) -> None:
    """Wait until a publish, after ``begin()``, has its outcome."""
    task = trio.lowlevel.current_task()

    def tell(error: BaseException | None) -> None:
        if error is None:
            trio.lowlevel.reschedule(task)
        else:
            trio.lowlevel.reschedule(task, outcome.Error(error))

    def abort(_: object) -> trio.lowlevel.Abort:
        publisher.abandon(entry)
        return trio.lowlevel.Abort.SUCCEEDED

    _watch(publisher, entry, at, timeout, tell)
    if begin is not None:
        begin()
    await trio.lowlevel.wait_task_rescheduled(abort)
