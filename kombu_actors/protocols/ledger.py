"""The publisher's ledger: every accepted publish and what became of it.

Pure.  The ledger lives above the channel that sends its entries, so a channel's death loses
nothing: entries written but unconfirmed become *unknown* and go back, in order, in front of
what was never written.  The four outcomes are ``_model.Outcome``.

Confirm tags count from 1 in each epoch (RabbitMQ, "Publisher Confirms": the sequence starts
at 1 with ``confirm.select``), so ``written`` is keyed by them.  On this side the ledger alone
counts them: an entry has its tag when it has been written, and only then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from .._model import Outcome, Returned

OutcomeWatcher = Callable[["Entry", Outcome, "Returned | BaseException | None"], None]


class Entry:
    """One accepted publish.  ``watcher`` hears its outcome once; None means nobody asked."""

    __slots__ = (
        *("attempted", "exchange", "mandatory", "prepared", "resent"),
        *("returned", "routing_key", "size", "watcher"),
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
        self.attempted = False
        self.resent = False
        """Written to a channel that died since: whatever becomes of it now, the broker may have it already."""
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
        self.counts: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.resent = 0
        self._next_tag = 1
        self._oldest = 1

    def __len__(self) -> int:
        return len(self.waiting) + len(self.written)

    def accept(self, entry: Entry) -> None:
        """Take responsibility for one publish."""
        self.waiting.append(entry)
        self.bytes += entry.size

    def take(self) -> Iterator[Entry]:
        """Each waiting entry, in order, for the caller to write.

        Asking for the next one says that the last one was written; else it stays waiting.
        """
        waiting, written = self.waiting, self.written
        while waiting:
            entry = waiting[0]
            yield entry
            waiting.popleft()
            written[self._next_tag] = entry
            self._next_tag += 1
            entry.attempted = True

    def wrote(self, entry: Entry) -> None:
        """Take responsibility for a publish that is on the wire already, after all written before."""
        self.bytes += entry.size
        self.written[self._next_tag] = entry
        self._next_tag += 1
        entry.attempted = True

    def start_epoch(self) -> int:
        """Forget tags: the channel that counted them is gone.  Returns how many will be sent again."""
        unknown = len(self.written)
        for entry in self.written.values():
            entry.resent = True
        self.waiting.extendleft(reversed(self.written.values()))
        self.written.clear()
        self._next_tag = self._oldest = 1
        self.resent += unknown
        return unknown

    def confirm(self, tag: int, multiple: bool, accepted: bool) -> int:
        """Settle what ``basic.ack`` or ``basic.nack`` speaks of; returns how many entries that were.

        A tag that is not outstanding any more is ignored: the entry may have been abandoned.

        Raises:
            LookupError: nothing has been written under that tag yet.
        """
        if not (0 if multiple else 1) <= tag < self._next_tag:
            raise LookupError(f"{self._next_tag - 1} were sent")
        written = self.written
        if multiple:
            last = tag if tag else self._next_tag - 1
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
        if accepted:
            self.counts[Outcome.CONFIRMED] += settled
        return settled

    def _tell(self, entry: Entry, accepted: bool) -> None:
        if not accepted:
            outcome = Outcome.REFUSED
            self.counts[outcome] += 1
        elif entry.returned is not None:
            outcome = Outcome.RETURNED
            self.counts[outcome] += 1
            self.counts[Outcome.CONFIRMED] -= 1
        else:
            outcome = Outcome.CONFIRMED
        if entry.watcher is not None:
            entry.watcher(entry, outcome, entry.returned)

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

    def refuse_where(self, condition: Callable[[Entry], bool], reason: BaseException) -> list[Entry]:
        """Settle as refused, with ``reason``, the entries that ``condition`` picks."""
        refused = [entry for entry in (*self.written.values(), *self.waiting) if condition(entry)]
        if refused:
            gone = set(map(id, refused))
            self.written = {tag: entry for tag, entry in self.written.items() if id(entry) not in gone}
            self.waiting = deque(entry for entry in self.waiting if id(entry) not in gone)
            self.settled += len(refused)
            self.counts[Outcome.REFUSED] += len(refused)
            for entry in refused:
                self.bytes -= entry.size
                if entry.watcher is not None:
                    entry.watcher(entry, Outcome.REFUSED, reason)
        return refused

    def abandon(self, entry: Entry) -> Outcome | None:
        """Stop caring for one entry because its publisher's deadline passed.

        Returns UNKNOWN when it may have reached the broker, None when it was never written
        (then it is not published at all).
        """
        entry.watcher = None
        for tag, other in self.written.items():
            if other is entry:
                del self.written[tag]
                break
        else:
            self.waiting.remove(entry)
        self.settled += 1
        self.bytes -= entry.size
        if not entry.attempted:
            return None
        self.counts[Outcome.UNKNOWN] += 1
        return Outcome.UNKNOWN
