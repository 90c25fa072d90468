"""The dead letters of a queue: list, show, replay, drop.

async with fleet.dead_letters("orders") as dead:
    for letter in await dead.list(error="CardDeclined"):
        print(letter.id, letter.reason)
    print(await dead.replay(error="CardDeclined", rate=50))
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypedDict, Unpack

import attrs
import trio

from ..broker import Broker, Delivered
from ..errors import NotFound, PublishReturned
from ..supervisors._interrupts import guarded, protected
from ..utils.uuid import uuid
from ._address import Address
from ._headers import copy_of
from ._letters import Criteria, DeadLetter
from ._looking import Look, looking
from .errors import FleetMistake

__all__ = ["DeadLetter", "DeadLetters", "Matching", "Replayed", "open_dead_letters"]

LIST_LIMIT = 100
"""Letters that a listing returns: some screens."""


class Matching(TypedDict, total=False):
    """Which dead letters are meant: those that all of these hold for."""

    error: str | None
    """Class name of the last error."""
    handler: str | None
    """``module.function``, or its last parts."""
    older_than: float | None
    """Seconds since it was dead-lettered, at least."""
    newer_than: float | None
    """Seconds since it was dead-lettered, at most."""
    ids: Collection[str] | None
    """Their ``message_id``."""
    where: Callable[[DeadLetter], bool] | None
    """Any question to the letter."""


@attrs.frozen(kw_only=True)
class Replayed:
    """What became of a replay."""

    replayed: int
    """Published to their queues and confirmed, then taken out of here; with ``dry_run``, those that would be."""
    homeless: Mapping[str, int]
    """By the name of a queue that doesn't exist: letters that stay here for that."""
    looked_at: int
    """How many letters were looked at."""
    left: int
    """How many behind them were not: the limit was reached, or too many that don't match had to be held."""
    dry_run: bool

    def __str__(self) -> str:
        words = "would be replayed" if self.dry_run else "replayed"
        text = f"{self.replayed} of {self.looked_at} dead letters {words}"
        for queue, count in self.homeless.items():
            text += f"; {count} stay, for their queue {queue!r} does not exist: declare it and replay again"
        return text + (f"; {self.left} more were not looked at" if self.left else "")


@guarded
async def open_dead_letters(address: Address, queue: str, dead_letter: str) -> AsyncIterator[DeadLetters]:
    """Connect to where the dead letters of ``queue`` are; raises as ``open_broker``."""
    async with address.open("dead letters") as broker:
        yield DeadLetters(broker, queue, dead_letter)


@protected
class DeadLetters:
    """The dead letters of one queue, the oldest first.  Get it from ``Fleet.dead_letters``.

    The calls take criteria, all of which have to hold: see ``Matching``.  What doesn't match stays in its place and
    order; while a call runs, others don't see what it looks at.  At most 10,000 letters are held for that: of a longer
    queue only its beginning is searched for the few that match.

    ``NotFound`` says that there is no queue for dead letters: no consumer of the fleet has run yet.
    """

    def __init__(self, broker: Broker, queue: str, name: str) -> None:
        self.queue = queue
        """Whose dead letters these are."""
        self.name = name
        """The queue that they are in."""
        self._broker = broker

    async def count(self) -> int:
        """How many there are, without those that somebody looks at just now."""
        return (await self._broker.inspect_queue(self.name)).messages

    async def list(self, limit: int = LIST_LIMIT, **criteria: Unpack[Matching]) -> tuple[DeadLetter, ...]:
        """The oldest letters that match, ``limit`` at most.  They stay, and so do they when this is cancelled."""
        async with self._looking(limit, criteria) as look:
            return tuple([letter async for _, letter in look])

    async def show(self, id: str) -> DeadLetter | None:
        """The letter with this ``message_id``; None when there is none."""
        found = await self.list(1, ids=(id,))
        return found[0] if found else None

    async def replay(
        self,
        *,
        limit: int | None = None,
        rate: float | None = None,
        dry_run: bool = False,
        **criteria: Unpack[Matching],
    ) -> Replayed:
        """Send the letters that match to their home queues, in order, as if they had never been tried.

        Each is published, and taken out of here once the broker has confirmed that.  Killed half-way, it loses nothing:
        those few that were in between are in both places, under the same ``message_id``.  A letter whose home queue
        does not exist stays, and the result says so.

        Args:
            limit: letters that are replayed at most; None: all.
            rate: letters per second at most, for the sake of whoever handles them.
            dry_run: only count them.

        Raises:
            FleetMistake: a wrong argument.
            PublishRefused, PublishUnknown, ...: as ``Broker.publish``; what was replayed until then is.

        Cancelled, it may leave one letter in both places.
        """
        if rate is not None and not 0 < rate < math.inf:
            raise FleetMistake(f"rate= takes letters per second above 0, not {rate!r:.80}")
        homeless: Counter[str] = Counter()
        replayed, began = 0, trio.current_time()
        async with self._looking(limit, criteria) as look:
            async for message, letter in look:
                if rate is not None:
                    await trio.sleep_until(began + replayed / rate)
                if letter.queue in homeless or not await self._goes_home(message, letter, dry_run):
                    homeless[letter.queue] += 1
                    continue
                replayed += 1
                if not dry_run:
                    look.take_out(message, letter)
            return Replayed(
                replayed=replayed, homeless=dict(homeless), looked_at=look.looked_at, left=look.left, dry_run=dry_run
            )

    async def drop(self, *, limit: int | None = None, dry_run: bool = False, **criteria: Unpack[Matching]) -> int:
        """Throw the letters that match away, for good; returns how many.

        Args:
            limit: letters that are dropped at most; None: all.
            dry_run: only count them.

        Cancelled, it has dropped some of them.
        """
        dropped = 0
        async with self._looking(limit, criteria) as look:
            async for message, letter in look:
                dropped += 1
                if not dry_run:
                    look.take_out(message, letter)
        return dropped

    def _looking(self, limit: int | None, criteria: Matching) -> AbstractAsyncContextManager[Look]:
        return looking(self._broker, self.name, home=self.queue, meant=Criteria(**criteria), limit=limit)

    async def _goes_home(self, message: Delivered, letter: DeadLetter, dry_run: bool) -> bool:
        """Publish a letter to its home queue, or look whether it could be; False: there is no such queue."""
        try:
            if dry_run:
                await self._broker.inspect_queue(letter.queue)
                return True
            copy = copy_of(message, letter.id or uuid(), {})
            await self._broker.publish(
                copy.body,
                routing_key=letter.queue,
                content_type=copy.content_type,
                content_encoding=copy.content_encoding,
                headers={name: value for name, value in copy.headers.items() if not name.startswith("ka-")},
                persistent=copy.persistent,
                mandatory=True,
                **copy.properties,
            )
        except (NotFound, PublishReturned):
            return False
        return True
