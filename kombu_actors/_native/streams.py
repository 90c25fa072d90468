"""Where to go on in a stream after a fault: at the first message that was not settled."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from .._values.model import Delivery
from ..supervisors._interrupts import protected

OFFSET = "x-stream-offset"
"""The argument that says where to begin, and the header that has a message's number."""

StreamOffset = Literal["first", "last", "next"] | int | datetime
"""A place in a stream."""


@protected
class StreamPosition:
    """What of a stream one subscription has been sent, and what of that is settled."""

    def __init__(self, start: StreamOffset) -> None:
        self._next = start
        """The place behind what has been sent."""
        self._unsettled: dict[int, None] = {}
        """In the order of the stream."""

    def sent(self, delivery: Delivery) -> None:
        """A message came."""
        number = delivery.properties["headers"][OFFSET]
        self._unsettled[number] = None
        self._next = number + 1

    def settled(self, delivery: Delivery) -> None:
        """A message was settled, over the session that it came in."""
        self._unsettled.pop(delivery.properties["headers"][OFFSET], None)

    def resume(self) -> StreamOffset:
        """Where the next session begins; what was sent from there on comes again."""
        place = next(iter(self._unsettled), self._next)
        self._unsettled.clear()
        return place
