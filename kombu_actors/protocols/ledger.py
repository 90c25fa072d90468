"""The publisher's ledger: every accepted publish and what became of it.

Pure.  The ledger lives above the channel that sends its entries, so a channel's death loses
nothing: entries written but unconfirmed become *unknown* and go back, in order, in front of
what was never written.  The four outcomes are ``_values.model.Outcome``.

Confirm tags count from 1 in each epoch (RabbitMQ, "Publisher Confirms": the sequence starts
at 1 with ``confirm.select``), so ``written`` is keyed by them.  On this side the ledger alone
counts them: an entry has its tag when it has been written, and only then.

A publish may itself be what ends its channel, and would do so for ever.  ``end_epoch`` finds it:
whatever may be to blame becomes *suspect* and is sent alone (``next_suspect``), so that the next
death names it.  A broker takes the publishes of a channel in order; what it has confirmed, or shown to
have got past (``prove``), is innocent.  Each death settles the culprit, or makes suspects, or counts:
so nothing is sent without end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from .._values.model import Outcome, Returned
from .blame import Blame, names_exchange

SUSPECT_AFTER = 3
"""Deaths without a reason that an entry may be under way at before it is sent alone: single faults
are nobody's fault, and sending one by one costs a round trip each."""
TRIES_MAX = 6
"""Deaths without a reason after which an entry that was sent alone is given up as unknown: three of them alone."""
RESENDS_MAX = 50
"""Deaths of any kind after which an entry is given up as unknown, somebody else's faults included."""

OutcomeWatcher = Callable[["Entry", Outcome, "Returned | BaseException | None"], None]


class Entry:
    """One accepted publish.  ``watcher`` hears its outcome once; None means nobody asked."""

    __slots__ = (
        *("attempted", "exchange", "follow", "mandatory", "prepared"),
        *("returned", "routing_key", "size", "tries", "watcher"),
    )

    def __init__(
        self,
        prepared: Any,
        size: int,
        exchange: str,
        routing_key: str,
        mandatory: bool = False,
        watcher: OutcomeWatcher | None = None,
    ) -> None:
        self.prepared = prepared
        self.size = size
        self.exchange = exchange
        self.routing_key = routing_key
        self.mandatory = mandatory
        self.watcher = watcher
        self.follow: Callable[[Entry], None] | None = None
        """Gives it the names that queues have by now, before it is written; None where no name can have changed."""
        self.attempted = False
        self.tries = 0
        """Channels that died before its outcome: from 1 on the broker may have it, whatever becomes of it now."""
        self.returned: Returned | None = None


class Ledger:
    """Entries in the order they were accepted: ``written`` to this epoch's channel, then ``waiting``.

    The bound on both together is kept by who accepts (``Publisher``): ``settled`` only grows,
    so accepted minus settled is what is under way, ``bytes`` its size.
    """

    def __init__(self) -> None:
        self.waiting: deque[Entry] = deque()
        self.written: dict[int, Entry] = {}
        self.settled = 0
        self.bytes = 0
        self.on_nacked: Callable[[Entry], None] | None = None
        """Hears of each ``basic.nack`` for an entry that nobody watches."""
        self.suspects = 0
        """How many at the head of ``waiting`` are to be sent alone."""
        self.strict = False
        """Alone means that nothing else is under way on the whole connection, and each waits for its outcome."""
        self._next_tag = 1
        self._oldest = 1
        self._proven = 0
        """Tags up to this one have not ended the channel."""
        self._explained = False
        """The broker has said which publish it ends the channel over."""
        self._abandoned = 0
        """The highest tag whose entry was abandoned: its publish may still be what ends the channel."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self.written)

    def accept(self, *entries: Entry) -> None:
        """Take responsibility for publishes."""
        self.waiting.extend(entries)
        for entry in entries:
            self.bytes += entry.size

    def take(self) -> Iterator[Entry]:
        """Each waiting entry, in order, for the caller to write; there are no suspects.

        Asking for the next one says that the last one was written; else it stays waiting.
        """
        waiting, written = self.waiting, self.written
        while waiting:
            entry = waiting[0]
            if entry.follow is not None:
                entry.follow(entry)
            yield entry
            del waiting[0]
            written[self._next_tag] = entry  # as ``_number`` does, without a call for each publish
            self._next_tag += 1
            entry.attempted = True

    def next_suspect(self) -> Entry | None:
        """The oldest suspect, for the caller to write alone; then ``wrote_suspect``, and nothing until ``proven``."""
        if not self.suspects:
            self.strict = False
            return None
        entry = self.waiting[0]
        if entry.follow is not None:
            entry.follow(entry)
        return entry

    def wrote_suspect(self) -> None:
        """The oldest suspect has been written."""
        self.suspects -= 1
        self._number(self.waiting.popleft())

    def prove(self) -> None:
        """Note that the channel lives after everything written so far."""
        self._proven = self._next_tag - 1

    @property
    def proven(self) -> bool:
        """Whether nothing that was written can still end the channel; with ``strict``, has no outcome yet."""
        return not self.written if self.strict else self._proven == self._next_tag - 1

    def wrote(self, entry: Entry) -> None:
        """Take responsibility for a publish that is on the wire already, after all written before."""
        self.bytes += entry.size
        self._number(entry)

    def _number(self, entry: Entry) -> None:
        self.written[self._next_tag] = entry
        self._next_tag += 1
        entry.attempted = True

    def end_epoch(self, blame: Blame, reason: BaseException) -> list[tuple[Entry, Outcome]]:
        """The channel that counted the tags is gone: settle who ended it, and put all others back in order.

        Returns what was settled, REFUSED (with ``reason``) or UNKNOWN, oldest first; watchers are the caller's to tell.
        """
        if self._explained:
            blame = Blame.OTHER
        lost = list(self.written.values())
        unproven = [entry for tag, entry in self.written.items() if tag > self._proven]
        alone = len(unproven) == 1 and self._abandoned <= self._proven and (self.strict or blame is Blame.PUBLISH)
        guilty: list[Entry] = []
        if blame is Blame.PUBLISH:
            guilty = [entry for entry in unproven if names_exchange(reason, entry.exchange)]
        if alone and blame in (Blame.PUBLISH, Blame.PUBLISH_SOMEWHERE):
            guilty = unproven
        fates = {id(entry): Outcome.REFUSED for entry in guilty}
        for entry in lost:
            entry.tries += 1
            if id(entry) not in fates and self._is_given_up(entry, blame, alone):
                fates[id(entry)] = Outcome.UNKNOWN
        settled = [(entry, fates[id(entry)]) for entry in lost if id(entry) in fates]
        again = [entry for entry in lost if id(entry) not in fates]
        self.waiting.extendleft(reversed(again))
        for entry, _ in settled:
            self._settle(entry)
        if self.suspects or self.strict or (not guilty and self._is_suspicious(blame, unproven, again)):
            self.suspects += len(again)
            self.strict = bool(self.suspects) and (self.strict or blame in (Blame.UNNAMED, Blame.PUBLISH_SOMEWHERE))
        self.written.clear()
        self._next_tag = self._oldest = 1
        self._proven = self._abandoned = 0
        self._explained = False
        return settled

    def refuse(self, tag: int) -> Entry | None:
        """Settle a publish that the broker says it ends the channel over; its watcher is the caller's to tell."""
        self._explained = True
        entry = self.written.pop(tag, None)
        if entry is not None:
            self._settle(entry)
        return entry

    def refuse_next(self) -> Entry:
        """Settle the oldest entry that waits: it can't be written.  Its watcher is the caller's to tell."""
        self.suspects -= self.suspects > 0
        entry = self.waiting.popleft()
        self._settle(entry)
        return entry

    @staticmethod
    def _is_given_up(entry: Entry, blame: Blame, alone: bool) -> bool:
        if blame is Blame.UNREAD:
            return False
        return entry.tries >= RESENDS_MAX or (alone and blame is Blame.UNNAMED and entry.tries >= TRIES_MAX)

    @staticmethod
    def _is_suspicious(blame: Blame, unproven: list[Entry], again: list[Entry]) -> bool:
        if blame is Blame.UNNAMED:
            return any(entry.tries >= SUSPECT_AFTER for entry in again)
        return blame in (Blame.PUBLISH, Blame.PUBLISH_SOMEWHERE) and bool(unproven)

    def _settle(self, entry: Entry) -> None:
        self.settled += 1
        self.bytes -= entry.size

    def confirm(self, tag: int, multiple: bool, accepted: bool) -> int:
        """Settle what ``basic.ack`` or ``basic.nack`` speaks of; returns how many entries that were.

        A tag that is not outstanding any more is ignored: the entry may have been abandoned.

        Raises:
            LookupError: nothing has been written under that tag yet.
        """
        if not (0 if multiple else 1) <= tag < self._next_tag:
            raise LookupError(f"{self._next_tag - 1} were sent")
        written = self.written
        last = tag if tag else self._next_tag - 1
        self._proven = max(self._proven, last)
        if multiple:
            tags: Iterator[int] | tuple[int] = iter(range(self._oldest, last + 1))
            self._oldest = max(self._oldest, last + 1)
        else:
            tags = (tag,)
            if tag == self._oldest:
                self._oldest += 1
        settled = 0
        for each in tags:
            entry = written.pop(each, None)
            if entry is not None:
                settled += 1
                self.bytes -= entry.size
                if entry.watcher is None and accepted and entry.returned is None:
                    continue
                self._tell(entry, accepted)
        self.settled += settled
        return settled

    def _tell(self, entry: Entry, accepted: bool) -> None:
        if not accepted:
            outcome = Outcome.REFUSED
        elif entry.returned is not None:
            outcome = Outcome.RETURNED
        else:
            outcome = Outcome.CONFIRMED
        if entry.watcher is not None:
            entry.watcher(entry, outcome, entry.returned)
        elif outcome is Outcome.REFUSED and self.on_nacked is not None:
            self.on_nacked(entry)

    def mark_returned(self, message: Returned) -> Entry | None:
        """Find the publish that ``basic.return`` speaks of.

        The broker returns a message before confirming it and in publish order, so it is the
        oldest mandatory one to that exchange and key that has not been returned yet.
        """
        for entry in self.written.values():
            if (
                entry.mandatory
                and entry.returned is None
                and entry.routing_key == message.routing_key
                and entry.exchange == message.exchange
            ):
                entry.returned = message
                return entry
        return None

    def abandon(self, entry: Entry) -> Outcome | None:
        """Stop caring for one entry because its publisher's deadline passed.

        Returns UNKNOWN when it may have reached the broker, None when it was never written
        (then it is not published at all).
        """
        entry.watcher = None
        for tag, other in self.written.items():
            if other is entry:
                del self.written[tag]
                self._abandoned = max(self._abandoned, tag)
                break
        else:
            position = self.waiting.index(entry)
            del self.waiting[position]
            self.suspects -= position < self.suspects
        self.settled += 1
        self.bytes -= entry.size
        if not entry.attempted:
            return None
        return Outcome.UNKNOWN
