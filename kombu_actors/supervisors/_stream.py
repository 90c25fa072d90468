"""A bounded stream of events for one reader."""

from __future__ import annotations

from collections import deque

from ._interrupts import protected
from ._lots import Lot, TrioLot
from .events import Event


@protected
class EventStream:
    """Events as they happen: ``async for event in stream``; ends when the tree has, or with its block.

    Never slows the supervisor down: a reader that falls behind loses the oldest events, and
    ``lost`` counts them.
    """

    def __init__(self, capacity: int, lot: Lot | None = None) -> None:
        self.lost = 0
        self._events: deque[Event] = deque(maxlen=capacity)
        self._arrived = lot or TrioLot()
        self._over = False

    def push(self, event: Event) -> None:
        """Add an event, dropping the oldest when full.  Called by the supervisor."""
        self.lost += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._arrived.unpark_all()

    def end(self) -> None:
        """Nothing will happen any more: the iteration ends after what is here."""
        self._over = True
        self._arrived.unpark_all()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        await self._arrived.checkpoint()
        while not self._events:
            if self._over:
                raise StopAsyncIteration
            await self._arrived.park()
        return self._events.popleft()
