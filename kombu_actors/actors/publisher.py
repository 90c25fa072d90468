"""The publisher: writes what its channel's ledger holds, in order, whenever it may.

The ledger is the desired state and outlives every epoch; from ``attach`` to ``detach`` one channel takes publishes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from amqp.exceptions import AMQPError

from .._logs import get_logger
from .._values.model import Outcome, Returned, Sent
from ..errors import ConnectionClosed, ConnectionLost
from ..protocols.blame import Blame, judge
from ..protocols.ledger import Entry, Ledger
from ..supervisors._interrupts import protected
from ._waiting import first_of
from .deadlines import Deadlines
from .outcomes import RefusalWatcher, cut_off, destination, given_up, outcome_error, unfit
from .quarantine import Quarantine

if TYPE_CHECKING:
    from ..transport._contract import Link, LinkChannel, LonePublish

logger = get_logger("kombu_actors.publisher")

WINDOW_MESSAGES = 4096
"""Publishes under way per publisher: enough to cover an fsync of the broker (~50 ms) at 50,000/s."""
WINDOW_BYTES = 32 * 1024 * 1024
"""Bytes under way per publisher: half the default body limit, so one large message always fits."""
NO_PUBLISHES: Final = Ledger()
"""The ledger of all publishers that have accepted nothing so far: most channels of a program that has many consume."""


@protected
class Publisher:
    """One channel's publishes.  Everything runs in the trio thread but ``publish_now``."""

    def __init__(
        self,
        deadlines: Deadlines,
        quarantine: Quarantine,
        blocked_because: Callable[[], str | None],
        turn: AbstractContextManager[object],
    ) -> None:
        self.ledger = NO_PUBLISHES
        self._nacked: list[Entry] = []
        self._turn = turn
        """Held by whoever publishes: the order on the wire is the order of the tags."""
        self._aside: list[tuple[Entry, LonePublish]] = []
        """Sent by other threads, and not in the ledger yet; what an interrupt kept from being sent, too."""
        self.on_first: Callable[[], None] | None = None
        """Told once, when it accepts its first publish."""
        self.on_returned: Callable[[Returned], None] | None = None
        self.on_refused: RefusalWatcher | None = None
        """Told of each publish that was refused, or given up as unknown, while nobody waited for it."""
        self.deadlines = deadlines
        self._quarantine = quarantine
        self.blocked_because = blocked_because
        self._wire: LinkChannel | None = None
        """The channel of this epoch; it takes publishes when it is ``_channel``, too."""
        self._channel: LinkChannel | None = None
        self._link: Link | None = None
        self._confirming = False
        """Whether this epoch's channel has been told to confirm: before its first publish, many have none."""
        self._unwatch: Callable[[], None] | None = None
        self.ended: BaseException | None = None
        """Why no channel comes any more; None while one may."""
        self._settled: trio.Event | None = None
        """Set with the next outcome; there while somebody waits for it."""

    @property
    def under_way(self) -> int:
        """How many publishes have had no outcome yet.  Any thread."""
        ledger = self.ledger
        return len(ledger.waiting) + len(ledger.written) + len(self._aside)

    def has_room(self) -> bool:
        """Whether one more publish fits into the window."""
        return self.under_way < WINDOW_MESSAGES and self.ledger.bytes < WINDOW_BYTES

    def check(self, entry: Entry) -> None:
        """Raise ``ValueError`` for what can't be sent within the limits agreed on with the broker.  Any thread.

        Without a session they aren't known: what then turns out not to fit is refused when its turn comes.
        """
        wire = self._wire
        if wire is not None:
            wire.check(entry.prepared)

    def publish_now(self, entry: Entry) -> Sent:
        """Put one publish on the wire from any thread, if nothing stands in the way; else nothing happens.

        Saves a lone message the way through the runtime.  After PART, or an interrupt (Ctrl-C), the channel
        must be flushed there; an interrupted one was published or not, as if its caller had not waited.
        """
        with self._turn:
            channel = self._channel
            if not self._confirming or channel is None or self.ledger.waiting or self.blocked_because() is not None:
                return Sent.NOTHING
            sent = channel.publish_now(entry.prepared, lambda lone: self._aside.append((entry, lone)))
            if sent is Sent.NOTHING and self._aside and self._aside[-1][0] is entry:
                self._aside.pop()
            return sent

    def accept(self, *entries: Entry) -> None:
        """Put publishes on the books; they are written at once when a channel is up."""
        if self.ledger is NO_PUBLISHES:
            self._begin()
        self.ledger.accept(*entries)
        self._pump()

    def _begin(self) -> None:
        self.ledger = Ledger()
        self.ledger.on_nacked = self._nacked.append
        if self._unwatch is None and self._link is not None:
            self._unwatch = self._link.on_blocked(self._on_blocked)
        if self.on_first is not None:
            self.on_first()

    async def wait_room(self) -> None:
        """Wait until the window has room.  Cancelling leaves nothing behind."""
        self.take_note()
        while not self.has_room() and self.ended is None:
            await self._news()

    async def wait_half_empty(self) -> None:
        """Wait until half the window is free: for a thread, to which each wait costs a wake-up."""
        self.take_note()
        while self.under_way > WINDOW_MESSAGES // 2 or self.ledger.bytes > WINDOW_BYTES // 2:
            await self._news()

    async def wait_settled(self) -> None:
        """Wait until what has been accepted so far has had its outcome, whatever is accepted meanwhile.

        A broker that takes no publishes has nothing of the rest: nobody waits for that.
        """
        self.take_note()
        target = self.ledger.settled + self.under_way
        while self.ledger.settled < target and self.blocked_because() is None:
            await self._news()

    async def wait_empty(self) -> None:
        """Wait until every accepted publish has had its outcome."""
        self.take_note()
        while self.under_way:
            await self._news()

    def abandon(self, entry: Entry) -> Outcome | None:
        """Stop caring for one entry; see ``Ledger.abandon``.  It doesn't leave any more if that can be helped."""
        if entry.attempted and self._channel is not None and self._channel.withdraw(entry.prepared):
            entry.attempted = entry.tries > 0
        result = self.ledger.abandon(entry)
        self._wake()
        return result

    def end(self, reason: BaseException) -> None:
        """No channel comes any more: tell those who wait for an outcome, and whoever comes."""
        self.ended = reason
        self.take_note()
        for entry in [*self.ledger.written.values(), *self.ledger.waiting]:
            watcher = entry.watcher
            if watcher is not None:
                unknown = self.abandon(entry) is Outcome.UNKNOWN
                watcher(entry, Outcome.UNKNOWN, cut_off(entry, reason) if unknown else reason)
        self._wake()

    async def attach(self, channel: LinkChannel, link: Link) -> None:
        """Publish over a channel from now on, once what may have ended the former one has been sent alone.

        Cancelled, or when the channel dies meanwhile, it is to be detached all the same.
        """
        self._wire = channel
        if self.ledger is not NO_PUBLISHES:
            with self._turn:
                self._record()
                # Mostly the channel's end was told by ``channel_died``; one that was stopped says nothing of publishes.
                self.ledger.end_epoch(Blame.OTHER, ConnectionClosed("the channel was stopped"))
        if self.ledger is not NO_PUBLISHES or self._quarantine.occupied:
            self._unwatch = link.on_blocked(self._on_blocked)
        if self.ledger.strict or self.ledger.suspects or self._quarantine.occupied:
            await first_of(partial(self._publish_suspects, channel, link), channel.wait_closed)
        if channel.closed is None:
            with self._turn:
                self._channel, self._link = channel, link
            self._pump()

    def detach(self) -> None:
        """Publish over no channel; what the last one has not confirmed is sent again over the next.  Again: a no-op."""
        if self._unwatch is not None:
            self._unwatch()
        self._unwatch = self._wire = None
        with self._turn:
            self._channel = self._link = None
            self._confirming = False

    def _have_confirmed(self, channel: LinkChannel) -> None:
        if not self._confirming:
            channel.confirm_select(self._on_confirm, self._on_return, self._confirms_are_due, self._on_refused)
            self._confirming = True

    async def _publish_suspects(self, channel: LinkChannel, link: Link) -> None:
        """Send alone, one after another, whatever may have ended the former channel or session."""
        await self._quarantine.wait_turn(self)
        if self.ledger.suspects:
            logger.info("channel %d: sending %d publishes again one by one", channel.number, self.ledger.suspects)
        while True:
            while link.blocked is not None:
                await self._news()
            if channel.closed is not None or (entry := self.ledger.next_suspect()) is None:
                break
            self._have_confirmed(channel)
            try:
                channel.publish(entry.prepared)
            except ValueError as error:
                self._refuse_next(error)
                continue
            self.ledger.wrote_suspect()
            if not self.ledger.strict and not await self._is_survived(channel):
                return
            while not self.ledger.proven:
                await self._news()
        if channel.closed is None:
            self._quarantine.leave(self)
            await self._quarantine.wait_turn(self)

    async def _is_survived(self, channel: LinkChannel) -> bool:
        try:
            await channel.wait_taken()
        except AMQPError:
            return False  # whoever serves the channel says what that means
        self.ledger.prove()
        return True

    def channel_died(self, reason: BaseException, *, unread: bool) -> None:
        """Settle the publishes that killed the channel; all others are sent again.

        ``unread``: an alarm kept the broker from reading when it died.
        """
        if self.ledger is not NO_PUBLISHES:
            self.take_note()
            with self._turn:
                settled = self.ledger.end_epoch(Blame.UNREAD if unread else judge(reason), reason)
            for entry, result in settled:
                self._tell(entry, result, reason if result is Outcome.REFUSED else given_up(entry, reason))
        if self.ledger.strict:
            self._quarantine.enter(self)
        else:
            self._quarantine.leave(self)
        self._wake()

    def _on_refused(self, tag: int, reason: BaseException) -> None:
        entry = self.ledger.refuse(tag)
        if entry is not None:
            self._tell(entry, Outcome.REFUSED, reason)
        self._wake()

    def _tell(self, entry: Entry, result: Outcome, error: BaseException) -> None:
        if entry.watcher is not None:
            entry.watcher(entry, result, error)
        else:
            logger.error("a publish to %s is %s and not sent again: %s", destination(entry), result.value, error)
            self._tell_program(entry, error, fatal=True)

    def _tell_program(self, entry: Entry, error: BaseException, *, fatal: bool) -> None:
        if self.on_refused is not None:
            self.on_refused(entry, error, fatal=fatal)

    def _on_blocked(self, reason: str | None) -> None:
        self._wake()
        if reason is None:
            self._pump()

    def _pump(self) -> None:
        while (error := self._write_waiting()) is not None:
            self._refuse_next(error)

    def _write_waiting(self) -> ValueError | None:
        """Write what waits, if it may leave; stops at one that doesn't fit this session, and says why."""
        channel, link = self._channel, self._link
        if channel is None or link is None or link.blocked is not None or channel.closed is not None:
            return None
        publish = channel.publish
        with self._turn:
            self._record()
            try:
                if self.ledger.waiting:
                    self._have_confirmed(channel)
                for entry in self.ledger.take():
                    publish(entry.prepared)
            except ValueError as error:
                return error
            except ConnectionLost:
                return None  # the channel has just ended: what is left goes over the next one
        return None

    def _refuse_next(self, error: ValueError) -> None:
        """Settle a publish that was prepared for a session with other limits: it doesn't fit this broker's."""
        entry = self.ledger.refuse_next()
        self._tell(entry, Outcome.REFUSED, unfit(error))
        self._wake()

    def _record(self) -> None:
        """Enter what other threads have written; the turn is held."""
        while self._aside:
            entry, lone = self._aside.pop(0)
            if lone.begun:
                self.ledger.wrote(entry)

    def take_note(self) -> None:
        """Enter what other threads have written."""
        if self._aside:
            with self._turn:
                self._record()

    def _confirms_are_due(self) -> bool:
        return bool(self.ledger.written or self._aside)

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        self.take_note()
        self.ledger.confirm(tag, multiple, accepted)
        if self._nacked:
            nacked, self._nacked[:] = list(self._nacked), []
            error = outcome_error(nacked[0], Outcome.REFUSED, None)
            logger.error("%d publishes were refused, the first of them: %s", len(nacked), error)
            for entry in nacked:
                self._tell_program(entry, outcome_error(entry, Outcome.REFUSED, None), fatal=False)
        self._wake()

    def _on_return(self, message: Returned) -> None:
        self.take_note()
        self.ledger.mark_returned(message)
        if self.on_returned is not None:
            self.on_returned(message)

    def _wake(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled.set()

    async def _news(self) -> None:
        """Wait for the next outcome, or whatever else may let somebody go on."""
        if self._settled is None:
            self._settled = trio.Event()
        await self._settled.wait()
