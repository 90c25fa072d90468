"""``fail_fast``: after so many failures in a row one message at a time, until one succeeds."""

from __future__ import annotations

import math

import trio

from ..supervisors._interrupts import protected


@protected
class Gate:
    """Lets handlers in: all of them, or while it is narrow one at a time.

    Its count of failures outlives shifts and restarts of the consumer: what fails is elsewhere.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = math.inf if limit is None else limit
        self._failures = 0
        self._occupied = False
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def narrow(self) -> bool:
        """Whether one message at a time is tried."""
        return self._failures >= self._limit

    def succeeded(self) -> None:
        """A handler returned."""
        self._failures = 0

    def failed(self) -> None:
        """A handler raised."""
        self._failures += 1

    async def enter(self, draining: trio.Event) -> bool:
        """Wait for a turn; returns whether ``leave`` has to be called, for the gate was narrow.

        It ends when ``draining`` is set and ``wake`` was called, too: then nothing more is to be begun.
        """
        while self.narrow and self._occupied and not draining.is_set():
            await self._waiting.park()
        if not self.narrow or draining.is_set():
            return False
        self._occupied = True
        return True

    def leave(self) -> None:
        """The turn is over."""
        self._occupied = False
        self._waiting.unpark(count=1 if self.narrow else len(self._waiting))

    def wake(self) -> None:
        """Let who waits look again at what it is asked to do."""
        self._waiting.unpark_all()
