"""``Broker.publish_many``: one after the other onto the wire, without waiting in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import trio

from .._values.model import Outcome, Returned
from ..actors.publisher import Publisher, outcome_error
from ..errors import PublishErrors
from ..protocols.ledger import Entry
from ..supervisors._interrupts import protected, unprotected

CHECKPOINT_EVERY = 32
"""Messages between two checkpoints while the window has room: less than a millisecond of publishing."""


@protected
class Batch:
    """The publishes of one call, in order, and what became of each."""

    def __init__(self, publisher: Publisher, make: Callable[[object], Entry], timeout: float) -> None:
        self._publisher = publisher
        self._make = make
        self._timeout = timeout
        self._outcomes: list[BaseException | None] = []
        """By number: why a message was not confirmed; None when it was, or nothing is known yet."""
        self._under_way: dict[Entry, tuple[int, float]] = {}
        """In order: the number, and until when its outcome is waited for."""
        self._failed = False
        self._heard = trio.Event()

    async def publish(self, bodies: Iterable[object]) -> int:
        """Publish them all, up to the first failure, and wait for every outcome; returns how many there were."""
        waiting = iter(bodies)
        try:
            await trio.lowlevel.checkpoint()
            while not self._failed and await self._publish_next(waiting):
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

    async def _publish_next(self, waiting: Iterator[object]) -> bool:
        try:
            body = unprotected(next, waiting)
        except StopIteration:
            return False
        try:
            entry = self._make(body)
            self._publisher.check(entry)
            await self._find_room(entry)
        except Exception as error:
            self._outcomes.append(error)
            self._failed = True
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
                raise publisher.too_late(entry, self._timeout)
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
            self._settle(entry, self._publisher.too_late(entry, self._timeout))

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
