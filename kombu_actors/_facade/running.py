"""A connection's running tree, with the facade's channels on it."""

from __future__ import annotations

from typing import cast

from .._bridge.channel import ChannelHandle
from .._bridge.connection import ConnectionHandle
from ..transport._contract import Transport
from .channel import Channel
from .channel_calls import ChannelCalls
from .contracts import ChannelHost
from .parameters import Parameters


class Tree(ConnectionHandle):
    """One run of a connection's tree, and the channels that the program has opened over it."""

    def __init__(self, driver: Transport, parameters: Parameters, *, holder: object | None = None) -> None:
        self.channels: dict[int, Channel] = {}
        self.default_channel: Channel | None = None
        super().__init__(
            driver, parameters.endpoints(), parameters.link_options(), parameters.strategy(), holder=holder
        )

    def new_channel(self, connection: ChannelHost, timeout: float) -> Channel:
        """Open a channel of that connection."""
        opened: list[ChannelHandle] = []
        try:
            self.open_channel(opened, timeout)
            channel = Channel(connection, opened[0], self.inbox)
            self.channels[channel.channel_id] = channel
        except BaseException:
            self._take_back(opened)
            raise
        return channel

    def reopen_channel(self, channel: ChannelCalls, timeout: float) -> None:
        """In a forked child: open a channel of the child's own, for which ``channel`` stands from now on."""
        opened: list[ChannelHandle] = []
        try:
            self.open_channel(opened, timeout, channel.handle)
            self.channels[opened[0].number] = cast("Channel", channel)
            channel.attach(opened[0], self.inbox)
        except BaseException:
            self._take_back(opened)
            raise

    def _take_back(self, opened: list[ChannelHandle]) -> None:
        for handle in opened:
            self.channels.pop(handle.number, None)
        self.take_back(opened)

    def keeps(self, channel: object) -> bool:
        """Whether supervision still keeps that channel for the connection."""
        return (
            isinstance(channel, Channel)
            and self.usable
            and channel.failure is None
            and self.channels.get(channel.channel_id) is channel
        )

    def forget(self, channel: ChannelCalls) -> None:
        """Drop a closed channel from the books."""
        if self.channels.get(channel.channel_id) is channel:
            del self.channels[channel.channel_id]
            if self.default_channel is channel:
                self.default_channel = None
