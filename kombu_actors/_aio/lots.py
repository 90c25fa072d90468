"""Where asyncio's tasks wait."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from .._bridge.bundle import Bundle

__all__ = ["LoopLot", "NewsLot"]


class LoopLot:
    """Tasks of this loop that wait, the first to come first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def park(self) -> None:
        """Wait until unparked.  Cancelled when it was just being woken, it wakes the next one instead."""
        future = self._loop.create_future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            if future.cancelled():
                with suppress(ValueError):  # who woke the others has met it, and passed it over
                    self._waiting.remove(future)
            else:
                self.unpark()
            raise

    def unpark(self, count: int = 1) -> None:
        """Wake as many as that."""
        waiting = self._waiting
        while count > 0 and waiting:
            future = waiting.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    def unpark_all(self) -> None:
        """Wake all."""
        self.unpark(len(self._waiting))

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def checkpoint_if_cancelled(self) -> None:
        """asyncio cancels a task where it waits, and not before."""


class NewsLot(LoopLot):
    """Its tasks are woken from the runtime, once for all that came before they had their turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, to_loop: Bundle) -> None:
        super().__init__(loop)
        self._to_loop = to_loop
        self._told = False

    def unpark_all(self) -> None:
        """Have all woken.  Runtime."""
        if not self._told:
            self._told = True
            self._to_loop.post(self.wake)

    def wake(self) -> None:
        """Wake all.  Loop."""
        self._told = False
        super().unpark_all()
