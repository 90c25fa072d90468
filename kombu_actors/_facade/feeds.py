"""What the items in a connection's inbox belong to, and how each is handed to user code.

``dispatch(channels, taken)`` hands over the one item in ``taken``, and empties it once user code has it: what is in
there when it is interrupted goes back into the inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._bridge.inbox import Taken
from .._values.model import Delivery
from ..actors.channel import Epoch

if TYPE_CHECKING:
    from .channel import Channel


HANDS_OVER = "hands_over"
"""Marks callbacks that say themselves (``Message._hand_over``) when user code has the message: they decode it first."""


class Feed:
    """What a batch in the inbox belongs to: one consumer in one epoch."""

    __slots__ = ("channel", "epoch", "no_ack", "tag")

    def __init__(self, channel: int, tag: str, no_ack: bool, epoch: Epoch) -> None:
        self.channel = channel
        self.tag = tag
        self.no_ack = no_ack
        self.epoch = epoch

    def dispatch(self, channels: Mapping[int, Channel], taken: Taken) -> bool:
        """Call the consumer's callback; False when there is none any more: the delivery will come again."""
        if self.epoch.wire.closed is not None and not self.no_ack:
            return False
        channel = channels.get(self.channel)
        if channel is None:
            return False
        callback = channel.callbacks.get(self.tag)
        delivery = taken[0][1]
        if callback is None:
            self.give_back(channel, delivery)
            return False
        message = channel.make_message(delivery, self.epoch, no_ack=self.no_ack)
        if getattr(callback, HANDS_OVER, False):
            message._taken = taken
        else:
            del taken[:]
        callback(message)
        return True

    def give_back(self, channel: Channel, delivery: Delivery) -> None:
        """The consumer was cancelled before it had the delivery: others may have it."""
        if not self.no_ack:
            channel.give_back(self.epoch, delivery)


class CancelNotice:
    """The broker ended a subscription; supervision is restoring it."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[str], object]) -> None:
        self.callback = callback

    def dispatch(self, channels: Mapping[int, Channel], taken: Taken) -> bool:
        tag = taken[0][1]
        del taken[:]
        self.callback(tag)
        return True


class ReturnNotice:
    """A mandatory message came back."""

    __slots__ = ("channel",)

    def __init__(self, channel: int) -> None:
        self.channel = channel

    def dispatch(self, channels: Mapping[int, Channel], taken: Taken) -> bool:
        channel = channels.get(self.channel)
        if channel is None:
            return False
        callbacks = list(channel.events["basic_return"])
        arguments = channel.return_arguments(taken[0][1])
        del taken[:]
        for callback in callbacks:
            callback(*arguments)
        return True


class Notice:
    """Something to call where events are drained."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[..., object]) -> None:
        self.fn = fn

    def dispatch(self, channels: Mapping[int, Any], taken: Taken) -> bool:
        """Call it."""
        arguments: tuple[Any, ...] = taken[0][1]
        del taken[:]
        self.fn(*arguments)
        return True
