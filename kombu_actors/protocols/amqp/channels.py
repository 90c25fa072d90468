"""What the engine knows about its channels: states, requests under way, content under way, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..numbers import ChannelNumbers
from .errors import LocalProtocolError, PeerProtocolError
from .fields import Arguments
from .states import ChannelState, ChannelStep, channel_after

__all__ = ["Channel", "ChannelTable", "Content"]


CONSUME_OK: Final = ("basic.consume-ok",)


class Content:
    """A message that is arriving: its method, then its header, then its body in pieces."""

    __slots__ = ("arguments", "discarded", "method", "missing", "pieces", "properties")

    def __init__(self, method: str, arguments: Arguments) -> None:
        self.method = method
        self.arguments = arguments
        self.properties: dict[str, object] | None = None
        self.missing = 0
        self.pieces: list[bytes] = []
        self.discarded = False
        """It is too large: nothing of the body is kept."""


class Channel:
    """One channel number in use."""

    __slots__ = ("content", "echoing", "expecting", "number", "publish_heads", "state")

    def __init__(self, number: int, *, echoing: bool) -> None:
        self.number = number
        self.state = ChannelState.FREE
        self.echoing = echoing
        """The broker closed the number's former life: what it had under way for that may come until open-ok."""
        self.content: Content | None = None
        self.expecting: list[tuple[tuple[str, ...], object]] = []
        """What may answer each request under way, with the request's token; the broker answers in order."""
        self.publish_heads: dict[bytes, bytes] = {}

    def take(self, step: ChannelStep) -> ChannelState:
        """Move on by ``step``, if that is legal; return the new state."""
        self.state = channel_after(self.number, self.state, step)
        return self.state

    def settle(self, method: str) -> object:
        """Match a reply with the oldest request that it can answer; return the request's token."""
        index = self.answered(method)
        if index is None:
            due = " or ".join(self.expecting[0][0]) if self.expecting else "no reply"
            raise PeerProtocolError(503, f"{method} on channel {self.number}, where {due} is due")
        token = self.expecting[index][1]
        del self.expecting[index]
        return token

    def answered(self, method: str) -> int | None:
        """Which request under way a reply answers: the oldest, but for those that wait for consume-ok.

        RabbitMQ has the queue grant a subscription, so that replies to later requests may come before (3.10).
        """
        for index, (replies, _) in enumerate(self.expecting):
            if method in replies:
                return index
            if replies != CONSUME_OK:
                break
        return None

    def asking(self, replies: tuple[str, ...] | None) -> list[object]:
        """The tokens of the requests under way that wait for these replies."""
        return [token for expected, token in self.expecting if expected == replies]

    def abandon(self) -> tuple[object, ...]:
        """Give up all requests and content; return the tokens, oldest first."""
        tokens = tuple(token for _, token in self.expecting)
        self.expecting.clear()
        self.content = None
        return tokens

    @property
    def awaiting(self) -> bool:
        """Whether the broker owes a reply."""
        return bool(self.expecting)


class ChannelTable:
    """The channels of one connection.  A number is used again only after its close-ok."""

    def __init__(self) -> None:
        self.by_number: dict[int, Channel] = {}
        self._numbers = ChannelNumbers(
            "this connection", "close some, open another connection, or raise channel_max on both sides"
        )
        self._echoing: set[int] = set()

    def allocate(self, channel_max: int, kept: bool = False) -> Channel:
        """Take the lowest free number, or the ``kept`` one, which is the highest.

        Raises:
            ChannelLimitExceeded: it is in use, or all others are.
        """
        number = self._numbers.take(channel_max, kept=kept)
        channel = self.by_number[number] = Channel(number, echoing=number in self._echoing)
        return channel

    def release(self, channel: Channel) -> None:
        """Free the number of a closed channel."""
        del self.by_number[channel.number]
        self._numbers.give_back(channel.number)

    def closed_by_peer(self, channel: Channel) -> None:
        """Free the number of a channel that the broker closed.

        RabbitMQ (3.10) still sends deliveries that its queues had under way after its own
        channel.close; they belong to nobody until the number is open again.
        """
        self.release(channel)
        self._echoing.add(channel.number)

    def opened(self, channel: Channel) -> None:
        """A new life has begun: from now on everything on this number belongs to it."""
        channel.echoing = False
        self._echoing.discard(channel.number)

    def forget(self) -> None:
        """Make all channels unusable: their connection is closed or closing."""
        for channel in self.by_number.values():
            channel.state = ChannelState.FREE

    def ours(self, number: int) -> Channel:
        """The channel that we want to use."""
        try:
            return self.by_number[number]
        except KeyError:
            raise LocalProtocolError(f"channel {number} is not open") from None

    def theirs(self, number: int) -> Channel | None:
        """The channel that the broker uses; None for one it has closed itself."""
        try:
            return self.by_number[number]
        except KeyError:
            if number in self._echoing:
                return None
            raise PeerProtocolError(504, f"a frame for channel {number}, which is not open") from None

    def __iter__(self) -> Iterator[Channel]:
        return iter(self.by_number.values())
