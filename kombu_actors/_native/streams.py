"""Where to go on in a stream after a fault: at the first message that was not settled."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from .._values.model import Delivery
from ..supervisors._interrupts import protected
from .delivered import Settles

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
        self._unsettled: dict[int, int] = {}
        """The numbers in the stream, in its order, by delivery tag of the present session."""

    def sent(self, batch: list[Delivery]) -> None:
        """Messages came."""
        for delivery in batch:
            number = delivery.properties["headers"][OFFSET]
            self._unsettled[delivery.delivery_tag] = number
            self._next = number + 1

    def settled(self, tag: int) -> None:
        """A message was settled, over the session that it came in."""
        self._unsettled.pop(tag, None)

    def resume(self) -> StreamOffset:
        """Where the next session begins; what was sent from there on comes again."""
        place = next(iter(self._unsettled.values()), self._next)
        self._unsettled.clear()
        return place


@protected
class StreamWire:
    """The channel that a stream is read over: what is settled there moves the position."""

    def __init__(self, wire: Settles, position: StreamPosition) -> None:
        self._wire = wire
        self._position = position

    @property
    def closed(self) -> BaseException | None:
        """Why it is dead; None while it lives."""
        return self._wire.closed

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery, if the channel lives."""
        if self._wire.closed is None:
            self._position.settled(tag)
            self._wire.ack(tag)

    def reject(self, tag: int) -> None:
        """Have it dropped, if the channel lives."""
        if self._wire.closed is None:
            self._position.settled(tag)
            self._wire.reject(tag)

    def nack(self, tag: int, *, requeue: bool = True) -> None:
        """Have it put back, if the channel lives."""
        if self._wire.closed is None:
            self._position.settled(tag)
            self._wire.nack(tag, requeue=requeue)
