"""The numbers of one connection's channels, where it is this side that gives them out."""

from __future__ import annotations

import heapq

from ..errors import ChannelLimitExceeded

__all__ = ["ChannelNumbers"]


class ChannelNumbers:
    """Gives out the lowest free number, from 1; the highest is kept for declarations.

    Args:
        connection: what the error calls the connection.
        remedy: what it says that can be done.
    """

    def __init__(self, connection: str, remedy: str) -> None:
        self._of = connection
        self._remedy = remedy
        self._released: list[int] = []
        self._unused = 1
        self._kept_in_use = False

    def take(self, channel_max: int, *, kept: bool) -> int:
        """The lowest free number, or the ``kept`` one.

        Raises:
            ChannelLimitExceeded: it is in use, or all others are.
        """
        number = channel_max if kept else self._released[0] if self._released else self._unused
        if self._kept_in_use if kept else number >= channel_max:
            raise ChannelLimitExceeded(
                f"all {channel_max} channels of {self._of} are in use (one is kept for declarations): {self._remedy}"
            )
        if kept:
            self._kept_in_use = True
        elif self._released:
            heapq.heappop(self._released)
        else:
            self._unused += 1
        return number

    def give_back(self, number: int) -> None:
        """Nobody uses it any more."""
        if number < self._unused:
            heapq.heappush(self._released, number)
        else:
            self._kept_in_use = False
