"""Changes to a browser, never faster than a rate."""

from __future__ import annotations

from contextlib import aclosing

import attrs
import trio

from ..feed import Reader
from .watching import Page

__all__ = ["BURST", "RATE", "Bucket", "tell_changes"]

RATE = 18_000.0
"""Bytes per second that one browser is sent at most, after the first second's."""
BURST = 18_000.0
"""Bytes that may come at once: a second's."""


@attrs.define(eq=False)
class Bucket:
    """How much may be sent now: fills at a rate, up to a burst, and may be overdrawn once.  Pure."""

    at: float
    """When that was last known, in seconds of any clock."""
    level: float = BURST

    def spend(self, amount: float, now: float) -> float:
        """So much was sent; returns the seconds until more may be."""
        self.level = min(self.level + (now - self.at) * RATE, BURST) - amount
        self.at = now
        return max(-self.level / RATE, 0.0)


async def tell_changes(page: Page, reader: Reader) -> None:
    """Tell a browser what differs from the frame that it says it has (``since``), for as long as it listens."""
    await reader.welcome()
    bucket = Bucket(at=trio.current_time())
    async with aclosing(page.changes(reader.query.get("since", ""))) as changes:
        async for piece in changes:
            before = reader.sent
            await reader.tell(piece)
            await trio.sleep(bucket.spend(reader.sent - before, trio.current_time()))
