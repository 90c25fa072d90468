"""Where tasks wait for something to change, whatever it is: each looks for itself whether that is what it waits for."""

from __future__ import annotations

import trio

from ._interrupts import protected


@protected
class Changes:
    """As a trio ``ParkingLot``, for thousands of things: takes no memory, and no time, while nobody waits."""

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot: trio.lowlevel.ParkingLot | None = None

    def unpark_all(self) -> None:
        """Wake whoever waits."""
        lot, self._lot = self._lot, None
        if lot is not None:
            lot.unpark_all()

    async def park(self) -> None:
        """Wait to be woken."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()
