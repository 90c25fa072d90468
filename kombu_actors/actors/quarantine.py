"""Which publisher of a connection may publish, after its session died of what one of them may have sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .publisher import Publisher

__all__ = ["Quarantine"]


class Quarantine:
    """While publishers are suspected of having ended the session, one of them publishes at a time, the others wait.

    Two that sent at once could not be told apart by the next death.
    """

    def __init__(self) -> None:
        self._line: dict[Publisher, None] = {}
        self._lot = trio.lowlevel.ParkingLot()

    def enter(self, publisher: Publisher) -> None:
        """It has suspects."""
        self._line[publisher] = None

    def leave(self, publisher: Publisher) -> None:
        """It has none any more, or is gone itself; a no-op for others."""
        if publisher in self._line:
            del self._line[publisher]
            self._lot.unpark_all()

    @property
    def occupied(self) -> bool:
        """Whether anybody is suspected."""
        return bool(self._line)

    async def wait_turn(self, publisher: Publisher) -> None:
        """Wait until ``publisher`` may publish: it is the first of the suspected, or there are none."""
        while self._line and next(iter(self._line)) is not publisher:
            await self._lot.park()
