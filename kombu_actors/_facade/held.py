"""What the program has been given and has not settled: it is lost to it with the channel's epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ConnectionLost

if TYPE_CHECKING:
    from .._bridge.inbox import Taken

__all__ = ["Held"]


class Held:
    """One channel's messages in the program's hands, by delivery tag, for ``Connection.tells_lost``.

    It is in the inbox at the end of each epoch, after all that came in that epoch.  Any thread settles, and single
    steps on a set are atomic.  Bounded by the prefetch, as the program's own list of them is.
    """

    def __init__(self, channel: int, where: str) -> None:
        self.tags: set[int] = set()
        self._channel = channel
        self._where = where

    def settled(self, tag: int, multiple: bool = False) -> None:
        """The program has settled a message; with ``multiple`` all before it, too, and with 0 all of them."""
        self.tags.discard(tag)
        if multiple:
            self.tags.difference_update([one for one in list(self.tags) if one < tag or not tag])

    def dispatch(self, channels: Mapping[int, object], taken: Taken) -> bool:
        """In the thread that drains events: tell the program, unless it has closed the channel itself."""
        del taken[:]
        count = len(self.tags)
        self.tags.clear()
        if not count or self._channel not in channels:
            return False
        raise ConnectionLost(
            f"{self._where}: the session ended while {count} messages that came over channel {self._channel} were not "
            "settled; the broker delivers them again, to this consumer or another one. Supervision has the connection "
            "up again, or is working on it"
        )
