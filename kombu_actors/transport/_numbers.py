"""The numbers of channels, where it is this side that gives them out."""

from __future__ import annotations

from collections.abc import Container

from ..errors import ChannelLimitExceeded

__all__ = ["free_number"]


def free_number(taken: Container[int], channel_max: int, kept: bool, name: str) -> int:
    """The lowest free number of a connection to ``name``, or the ``kept`` one, which is the highest.

    Raises:
        ChannelLimitExceeded: there is none.
    """
    numbers = (channel_max,) if kept else range(1, channel_max)
    for number in numbers:
        if number not in taken:
            return number
    raise ChannelLimitExceeded(
        f"all {channel_max} channels of the connection to {name} are in use (one is kept for declarations): close "
        "some, or open another connection"
    )
