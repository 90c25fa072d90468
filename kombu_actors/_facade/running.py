"""A connection's running tree, with the facade's channels on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .._bridge.channel import ChannelHandle
from .._bridge.connection import ConnectionHandle
from .._bridge.inbox import Taken
from .channel import Channel
from .channel_calls import ChannelCalls
from .parameters import Parameters

if TYPE_CHECKING:
    from ..transport._contract import Transport
    from .contracts import ChannelHost, EventLoop
    from .watching import Watch


class ConnectionTree(ConnectionHandle):
    """One run of a connection's tree, and the channels that the program has opened over it."""

    def __init__(self, driver: Transport, parameters: Parameters, *, holder: object | None = None) -> None:
        self.channels: dict[int, Channel] = {}
        self.default_channel: Channel | None = None
        self.watches: list[Watch] = []
        """The program's event loops that drain it."""
        super().__init__(driver, parameters.endpoints, parameters.link_options(), parameters.strategy(), holder=holder)

    def new_channel(self, connection: ChannelHost, timeout: float) -> Channel:
        """Open a channel of that connection."""
        opened: list[ChannelHandle] = []
        try:
            if self.may_promise(len(self.channels)):
                self.promise_channel(opened)
            else:
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

    # Its events, drained by the program

    def handle_next(self, timeout: float | None, since: int | None = None) -> None:
        """Wait for one event and run its callback in this thread; see ``Connection.drain_events``.

        Raises:
            NothingCame: within ``timeout`` seconds.
            what the inbox was given to raise.
        """
        inbox, channels = self.inbox, self.channels
        taken: Taken = []
        handled = False
        try:
            inbox.take(taken, timeout, since)
            while taken:
                handled = True
                if taken[0][0].dispatch(channels, taken):
                    return
                del taken[:]
                inbox.take(taken, timeout, since)
        finally:
            if taken:
                inbox.put_back(taken)
            elif handled:
                try:
                    inbox.handled()
                except BaseException:
                    inbox.handled()  # others may wait for what has been done here, whoever interrupted its announcement
                    raise

    def watch(self, loop: EventLoop) -> None:
        """Have an event loop handle what comes, from now on."""
        from .watching import Watch  # few programs have an event loop

        watch = next((one for one in self.watches if one.loop is loop), None)
        if watch is None:
            watch = Watch(self, loop)
            self.watches.append(watch)
        watch.begin()

    def unwatch(self) -> None:
        """Have event loops watch it no longer."""
        watches, self.watches = self.watches, []
        for watch in watches:
            watch.end()
