"""A connection's running tree, with the facade's channels on it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, cast

from .._bridge.channel import ChannelHandle
from .._bridge.connection import ConnectionHandle
from .._bridge.inbox import NothingCame, Taken
from .._bridge.listener import Listener
from .channel import Channel
from .channel_calls import ChannelCalls
from .parameters import Parameters

if TYPE_CHECKING:
    from ..transport._contract import Transport
    from .contracts import ChannelHost, EventLoop

TURN = 0.005
"""Seconds after which an event loop is given back its turn, though there is more to drain."""


class ConnectionTree(ConnectionHandle):
    """One run of a connection's tree, and the channels that the program has opened over it."""

    def __init__(self, driver: Transport, parameters: Parameters, *, holder: object | None = None) -> None:
        self.channels: dict[int, Channel] = {}
        self.default_channel: Channel | None = None
        self.watched_by: list[EventLoop] = []
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
        if loop not in self.watched_by:
            self.watched_by.append(loop)
        listener = self.inbox.listen()
        loop.add_reader(listener.descriptor, self._drain_waiting, listener)

    def _drain_waiting(self, listener: Listener) -> None:
        """In an event loop: handle what is there now; what comes meanwhile is the next turn's."""
        listener.hear()
        if not self.watched_by:
            return  # released meanwhile
        inbox, deadline = self.inbox, time.monotonic() + TURN
        try:
            for _ in range(max(len(inbox.waiting), 1)):
                if not inbox.has_news:
                    return
                self.handle_next(timeout=0)
                if time.monotonic() > deadline:
                    return  # the loop has something else to do, too: Celery's acks, for one
        except NothingCame:
            return  # another thread has taken it
        except BaseException:
            if not self.usable:
                self.unwatch()  # it has said why, and will have no more to say
            raise
        finally:
            if inbox.waiting:
                listener.ring()

    def unwatch(self) -> None:
        """Have event loops watch it no longer.

        In a forked child nothing is changed: a loop's ``epoll`` is the same one as the parent's there.
        """
        watched_by, self.watched_by = self.watched_by, []
        if self.pid == os.getpid():
            for loop in watched_by:
                loop.remove_reader(self.inbox.listen().descriptor)
