"""The publisher actor: writes what its ledger holds, in order, whenever it may.

The ledger is the desired state and outlives every epoch of the actor; the actor itself is
only the time during which one channel takes publishes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import outcome
import trio
from amqp import exceptions as amqp_errors

from .._model import Outcome, Returned, Sent
from ..errors import ConnectionBlocked, DeadlineExceeded, PublishRefused, PublishReturned, PublishUnknown
from ..protocols.ledger import Entry, Ledger
from ..supervisors import ActorContext
from ..transport._link import Link, LinkChannel, LonePublish
from ._waiting import first_of
from .deadlines import Deadlines

logger = logging.getLogger("kombu_actors.publisher")

WINDOW_MESSAGES = 4096
"""Publishes under way per publisher: enough to cover an fsync of the broker (~50 ms) at 50,000/s."""
WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes under way per publisher: half the default body limit, so one large message always fits."""


def outcome_error(entry: Entry, outcome: Outcome, detail: Returned | BaseException | None) -> BaseException:
    """The exception that tells a publisher about an outcome other than CONFIRMED."""
    where = f"exchange {entry.exchange!r}, routing key {entry.routing_key!r}"
    if isinstance(detail, BaseException):
        return detail
    if outcome is Outcome.RETURNED:
        text = f"{detail.code} {detail.text}" if detail is not None else "NO_ROUTE"
        return PublishReturned(f"the broker returned the message ({text}): no queue is bound for {where}")
    return PublishRefused(
        f"the broker refused the message to {where} (basic.nack): a queue is over its limit with "
        "x-overflow=reject-publish, or failed while storing it"
    )


class Publisher:
    """One channel's publishes.  Everything runs in the trio thread but ``publish_now``."""

    def __init__(
        self,
        deadlines: Deadlines,
        blocked_because: Callable[[], str | None],
        turn: AbstractContextManager[Any],
    ) -> None:
        self.ledger = Ledger()
        self._turn = turn
        """Held by whoever publishes: the order on the wire is the order of the tags."""
        self._aside: deque[tuple[Entry, LonePublish]] = deque()
        """Sent by other threads, and not in the ledger yet; what an interrupt kept from being sent, too."""
        self.on_returned: Callable[[Returned], None] | None = None
        self._deadlines = deadlines
        self._blocked_because = blocked_because
        self._channel: LinkChannel | None = None
        self._link: Link | None = None
        self._wanted = trio.Event()
        self._settled = trio.Event()

    @property
    def under_way(self) -> int:
        """How many publishes have had no outcome yet.  Any thread."""
        return len(self.ledger) + len(self._aside)

    def has_room(self) -> bool:
        """Whether one more publish fits into the window."""
        return self.under_way < WINDOW_MESSAGES and self.ledger.bytes < WINDOW_BYTES

    def publish_now(self, entry: Entry) -> Sent:
        """Put one publish on the wire from any thread, if nothing stands in the way; else nothing happens.

        Saves a lone message the way through the runtime.  After PART, or an interrupt (Ctrl-C), the channel
        must be flushed there; an interrupted one was published or not, as if its caller had not waited.
        """
        with self._turn:
            channel = self._channel
            if channel is None or self.ledger.waiting or self._blocked_because() is not None:
                return Sent.NOTHING
            sent = channel.publish_now(entry.prepared, lambda lone: self._aside.append((entry, lone)))
            if sent is Sent.NOTHING and self._aside and self._aside[-1][0] is entry:
                self._aside.pop()
            return sent

    def accept(self, *entries: Entry) -> None:
        """Put publishes on the books; they are written at once when a channel is up."""
        for entry in entries:
            self.ledger.accept(entry)
        if self._channel is not None:
            self._pump()
        else:
            self._wanted.set()

    async def wait_room(self) -> None:
        """Wait until the window has room.  Cancelling leaves nothing behind."""
        self._take_note()
        while not self.has_room():
            await self._settled.wait()

    async def wait_half_empty(self) -> None:
        """Wait until half the window is free: for a thread, to which each wait costs a wake-up."""
        self._take_note()
        while self.under_way > WINDOW_MESSAGES // 2 or self.ledger.bytes > WINDOW_BYTES // 2:
            await self._settled.wait()

    async def wait_settled(self) -> None:
        """Wait until what has been accepted so far has had its outcome, whatever is accepted meanwhile.

        A broker that takes no publishes has nothing of the rest: nobody waits for that.
        """
        self._take_note()
        target = self.ledger.settled + self.under_way
        while self.ledger.settled < target and self._blocked_because() is None:
            await self._settled.wait()

    async def wait_empty(self) -> None:
        """Wait until every accepted publish has had its outcome."""
        self._take_note()
        while self.under_way:
            await self._settled.wait()

    async def send(self, entry: Entry, timeout: float) -> None:
        """Accept one publish and wait ``timeout`` seconds for its outcome.

        Raises:
            PublishReturned, PublishRefused, NotFound, ...: what ``outcome_error`` says.
            PublishUnknown: no outcome in time; the broker may have it.  It is not sent again.
            ConnectionBlocked, DeadlineExceeded: it was never written, and won't be.

        Cancellation abandons the entry: it is not sent when it wasn't yet; otherwise its
        outcome is unknown and it is not sent again.
        """
        at = trio.current_time() + timeout
        if not self.has_room():
            with trio.move_on_at(at):
                await self.wait_room()
            if not self.has_room():
                raise self.too_late(entry, timeout)
        task = trio.lowlevel.current_task()

        def settled(entry: Entry, result: Outcome, detail: Returned | BaseException | None) -> None:
            entry.watcher = None
            if result is Outcome.CONFIRMED:
                trio.lowlevel.reschedule(task)
            else:
                trio.lowlevel.reschedule(task, outcome.Error(outcome_error(entry, result, detail)))

        def abort(_: object) -> trio.lowlevel.Abort:
            self.abandon(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        def expired(entry: Entry) -> None:
            self.abandon(entry)
            settled(entry, Outcome.UNKNOWN, self.too_late(entry, timeout))

        entry.watcher = settled
        if self._deadlines.add(at, entry, expired):
            self.accept(entry)
            await trio.lowlevel.wait_task_rescheduled(abort)
            return
        with trio.move_on_at(at):
            self.accept(entry)
            await trio.lowlevel.wait_task_rescheduled(abort)
            return
        raise self.too_late(entry, timeout)

    def too_late(self, entry: Entry, timeout: float) -> Exception:
        """What a publisher is told whose deadline has passed."""
        where = f"exchange {entry.exchange!r}, routing key {entry.routing_key!r}"
        if entry.attempted:
            return PublishUnknown(
                f"no confirm within {timeout:g} s for the message to {where}: the broker may have it; "
                "publishing again may duplicate it"
            )
        reason = self._blocked_because()
        if reason is not None:
            return ConnectionBlocked(f"the broker takes no publishes ({reason}); not sent: {where}")
        return DeadlineExceeded(f"no session, or no room in the window, within {timeout:g} s; not sent: {where}")

    def abandon(self, entry: Entry) -> Outcome | None:
        """Stop caring for one entry; see ``Ledger.abandon``.  It doesn't leave any more if that can be helped."""
        if entry.attempted and self._channel is not None and self._channel.withdraw(entry.prepared):
            entry.attempted = entry.resent
        result = self.ledger.abandon(entry)
        self._wake()
        return result

    async def serve(self, ctx: ActorContext, channel: LinkChannel, link: Link) -> None:
        """Publish over one channel until it dies or the actor is told to stop."""
        if not self._wanted.is_set() and not len(self.ledger):
            ctx.ready()
            await first_of(self._wanted.wait, ctx.stopping.wait)
            if ctx.stopping.is_set():
                return
        await channel.confirm_select(self._on_confirm, self._on_return, self._confirms_are_due)
        with self._turn:
            self._record()
            unknown = self.ledger.start_epoch()
            self._channel, self._link = channel, link
        if unknown:
            logger.info("%s: sending %d publishes of unknown outcome again", ctx.path, unknown)
        unwatch = link.on_blocked(self._on_blocked)
        try:
            self._pump()
            ctx.ready()
            await ctx.stopping.wait()
        finally:
            unwatch()
            with self._turn:
                self._channel = self._link = None

    def channel_died(self, reason: BaseException) -> None:
        """Settle the publishes that killed the channel; all others are sent again.

        A publish to an exchange that does not exist closes the channel (404), and would do so
        for ever if it stayed in the ledger.
        """
        if not isinstance(reason, amqp_errors.NotFound | amqp_errors.AccessRefused):
            return
        text = str(reason)
        self._take_note()
        refused = self.ledger.refuse_where(
            lambda entry: bool(entry.exchange) and f"exchange '{entry.exchange}' in vhost" in text, reason
        )
        for entry in refused:
            if entry.watcher is None:
                logger.error("publish to exchange %r was refused: %s", entry.exchange, reason)
        self._wake()

    def _on_blocked(self, reason: str | None) -> None:
        if reason is not None:
            self._wake()
        elif self._channel is not None:
            self._pump()

    def _pump(self) -> None:
        channel, link = self._channel, self._link
        if channel is None or link is None or link.blocked is not None or channel.closed is not None:
            return
        publish = channel.publish
        with self._turn:
            self._record()
            for entry in self.ledger.take():
                publish(entry.prepared)

    def _record(self) -> None:
        """Enter what other threads have written; the turn is held."""
        while self._aside:
            entry, lone = self._aside.popleft()
            if lone.begun:
                self.ledger.wrote(entry)

    def _take_note(self) -> None:
        if self._aside:
            with self._turn:
                self._record()

    def _confirms_are_due(self) -> bool:
        return bool(self.ledger.written or self._aside)

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        self._take_note()
        settled = self.ledger.confirm(tag, multiple, accepted)
        if not accepted and settled:
            logger.error("the broker refused %d publish(es) (basic.nack)", settled)
        self._wake()

    def _on_return(self, message: Returned) -> None:
        self._take_note()
        self.ledger.mark_returned(message)
        if self.on_returned is not None:
            self.on_returned(message)

    def _wake(self) -> None:
        if self._settled.statistics().tasks_waiting:
            self._settled.set()
            self._settled = trio.Event()
