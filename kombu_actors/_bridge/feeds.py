"""What the items in a connection's inbox belong to, and how each is handed to user code.

``dispatch(channels, taken)`` hands over the one item in ``taken``, and empties it once user code has it: what is in
there when it is interrupted goes back into the inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from .._frozen import Record

if TYPE_CHECKING:
    from .._values.model import Delivery
    from ..actors.channel import Epoch
    from .inbox import Taken

__all__ = ["HANDS_OVER", "Arrival", "ChannelNotice", "Feed", "Notice", "Receiver"]

HANDS_OVER = "hands_over"
"""Marks callbacks that say themselves (``Message._hand_over``) when user code has the message: they decode it first."""


class Deliverable(Protocol):
    """A message on its way to user code."""

    _taken: Taken | None


M = TypeVar("M", bound=Deliverable)


class Receiver(Protocol[M]):
    """The channel that a thread consumes over, to the feeds of its consumers."""

    @property
    def callbacks(self) -> Mapping[str, Callable[[M], object]]:
        """By consumer tag; each takes what ``make_message`` makes."""

    @property
    def hearers(self) -> Mapping[ChannelNotice, Callable[..., object]]:
        """Who is to be called for each kind of news of this channel."""

    def make_message(self, delivery: Delivery, tag_offset: int, *, no_ack: bool) -> M:
        """The message for one delivery, whose tag is ``tag_offset`` higher than on the wire."""

    def give_back(self, arrival: Arrival) -> None:
        """Requeue a delivery that no callback has had."""


class Arrival(Record):
    """A delivery, and the epoch of its channel in which it came."""

    delivery: Delivery
    epoch: Epoch

    @property
    def tag_offset(self) -> int:
        """By how much its tag is higher for the program than on the wire."""
        return self.epoch.tag_offset


class Feed:
    """What a batch in the inbox belongs to: one consumer in one epoch."""

    __slots__ = ("channel", "epoch", "no_ack", "tag")

    def __init__(self, channel: int, tag: str, no_ack: bool, epoch: Epoch) -> None:
        self.channel = channel
        self.tag = tag
        self.no_ack = no_ack
        self.epoch = epoch

    def dispatch(self, channels: Mapping[int, Receiver[M]], taken: Taken) -> bool:
        """Call the consumer's callback; False when there is none any more: the delivery will come again."""
        epoch = self.epoch
        if epoch.wire.closed is not None and not self.no_ack:
            return False
        channel = channels.get(self.channel)
        if channel is None:
            return False
        callback = channel.callbacks.get(self.tag)
        delivery = taken[0][1]
        if callback is None:
            self.give_back(channel, delivery)
            return False
        message = channel.make_message(delivery, epoch.tag_offset, no_ack=self.no_ack)
        if getattr(callback, HANDS_OVER, False):
            message._taken = taken
        else:
            del taken[:]
        callback(message)
        return True

    def give_back(self, channel: Receiver[M], delivery: Delivery) -> None:
        """The consumer was cancelled before it had the delivery: others may have it."""
        if not self.no_ack:
            channel.give_back(Arrival(delivery, self.epoch))


class ChannelNotice(Record):
    """News of a channel; each item is the arguments of who hears of it.

    The channel knows who does: the runtime refers to nothing of the program's, which could not be collected else.
    """

    channel: int
    event: Literal["cancelled", "renamed"]
    name: str
    """Of the consumer, or of the queue."""
    number: int = 0
    """Tells apart those who hear of one queue."""

    def dispatch(self, channels: Mapping[int, Receiver[M]], taken: Taken) -> bool:
        """Call the hearer; False when there is none any more."""
        arguments: tuple[object, ...] = taken[0][1]
        channel = channels.get(self.channel)
        hearer = channel.hearers.get(self) if channel is not None else None
        if hearer is None:
            return False
        del taken[:]
        hearer(*arguments)
        return True


class Notice:
    """Something to call where events are drained; each item is its arguments."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[..., object]) -> None:
        self.fn = fn

    def dispatch(self, channels: Mapping[int, object], taken: Taken) -> bool:
        """Call it."""
        arguments: tuple[object, ...] = taken[0][1]
        del taken[:]
        self.fn(*arguments)
        return True
