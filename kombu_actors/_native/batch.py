"""``Broker.publish_many``: one after the other onto the wire, without waiting in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import trio

from .._values.model import Outcome, Returned
from ..actors.outcomes import outcome_error, too_late
from ..actors.publisher import Publisher
from ..errors import PublishErrors
from ..protocols.ledger import Entry
from ..supervisors._interrupts import protected, unprotected

CHECKPOINT_EVERY = 32
"""Messages between two checkpoints while the window has room: less than a millisecond of publishing."""


class Source(Protocol):
    """Where the messages of one call come from, in order."""

    async def next(self) -> Entry | Exception | None:
        """The next one, or why it can't be sent; None when there is none.  Raises whatever ``bodies`` raises."""


@protected
class Bodies:
    """The bodies that a program in trio has given."""

    def __init__(self, bodies: Iterable[object], make: Callable[[object], Entry]) -> None:
        self._bodies = iter(bodies)
        self._make = make

    async def next(self) -> Entry | Exception | None:
        """Ask for the next one and encode it.  No checkpoint."""
        return next_entry(self._bodies, self._make)


def next_entry(bodies: Iterator[object], make: Callable[[object], Entry]) -> Entry | Exception | None:
    """What ``Source.next`` is to return, of bodies and what makes them entries."""
    try:
        body = unprotected(next, bodies)
    except StopIteration:
        return None
    try:
        return make(body)
    except Exception as error:
        return error


@protected
class Batch:
    """The publishes of one call, in order, and what became of each."""

    def __init__(self, publisher: Publisher, source: Source, timeout: float) -> None:
        self._publisher = publisher
        self._source = source
        self._timeout = timeout
        self._outcomes: list[BaseException | None] = []
        """By number: why a message was not confirmed; None when it was, or nothing is known yet."""
        self._under_way: dict[Entry, tuple[int, float]] = {}
        """In order: the number, and until when its outcome is waited for."""
        self._failed = False
        self._heard = trio.Event()

    async def publish(self) -> int:
        """Publish them all, up to the first failure, and wait for every outcome; returns how many there were."""
        try:
            await trio.lowlevel.checkpoint()
            while not self._failed and await self._publish_next():
                if len(self._outcomes) % CHECKPOINT_EVERY == 0:
                    await trio.lowlevel.checkpoint()
            while self._under_way:
                self._heard = trio.Event()
                with trio.move_on_at(self._next_deadline()):
                    await self._heard.wait()
                self._expire()
        finally:
            for entry in self._under_way:
                self._publisher.abandon(entry)
        if self._failed:
            raise PublishErrors(self._outcomes)
        return len(self._outcomes)

    async def _publish_next(self) -> bool:
        entry = await self._source.next()
        if entry is None:
            return False
        try:
            if isinstance(entry, Exception):
                raise entry
            self._publisher.check(entry)
            await self._find_room(entry)
        except Exception as error:
            self._outcomes.append(error)
            self._failed = True
            return False
        if self._failed:
            return False
        self._under_way[entry] = len(self._outcomes), trio.current_time() + self._timeout
        self._outcomes.append(None)
        entry.watcher = self._settled
        self._publisher.accept(entry)
        return True

    async def _find_room(self, entry: Entry) -> None:
        """Wait for room in the window, unless a publish fails meanwhile; raises what keeps this one out."""
        publisher = self._publisher
        at = trio.current_time() + self._timeout
        while not publisher.has_room() and publisher.ended is None and not self._failed:
            if trio.current_time() >= at:
                raise too_late(entry, self._timeout, publisher.blocked_because())
            with trio.move_on_at(min(at, self._next_deadline())):
                await publisher.wait_room()
            self._expire()
        if publisher.ended is not None:
            raise publisher.ended

    def _next_deadline(self) -> float:
        for _, at in self._under_way.values():
            return at
        return math.inf

    def _expire(self) -> None:
        """Give up those whose time is over; all wait equally long, so these are the first ones."""
        while self._next_deadline() <= trio.current_time():
            entry = next(iter(self._under_way))
            self._publisher.abandon(entry)
            self._settle(entry, too_late(entry, self._timeout, self._publisher.blocked_because()))

    def _settled(self, entry: Entry, result: Outcome, detail: Returned | BaseException | None) -> None:
        entry.watcher = None
        if result is Outcome.CONFIRMED:
            del self._under_way[entry]
        else:
            self._settle(entry, outcome_error(entry, result, detail))
        self._heard.set()

    def _settle(self, entry: Entry, error: BaseException) -> None:
        number, _ = self._under_way.pop(entry)
        self._outcomes[number] = error
        self._failed = True
