"""The channels over which simple queues consume."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from .._bridge.forking import start_afresh_after_fork

if TYPE_CHECKING:
    from ..connection import Connection
    from .channel import Channel

PREFETCH = 1
"""Messages that an idle queue object may hold back from others.  kombu sets no bound and takes all there are."""


class QueueChannel:
    """The channel that the simple queues of one connection share.

    It is apart from the default one because its prefetch would bind consumers there.
    """

    def __init__(self) -> None:
        self._opening = threading.RLock()
        self._channel: weakref.ref[Channel] | None = None

    def channel(self, connection: Connection) -> Channel:
        """The channel; opened when there is none, or when supervision gave the last one up."""
        with self._opening:
            channel = self._channel() if self._channel is not None else None
            if channel is None or not connection.keeps(channel):
                channel = connection.channel()
                channel.basic_qos(0, PREFETCH, False)
                self._channel = weakref.ref(channel)
            return channel


class QueueChannels:
    """That of each connection."""

    def __init__(self) -> None:
        self.start_afresh()
        start_afresh_after_fork(self)

    def start_afresh(self) -> None:
        """Forget all: in a forked child their locks may be held for ever."""
        self._lock = threading.RLock()
        self._by_connection: weakref.WeakKeyDictionary[Connection, QueueChannel] = weakref.WeakKeyDictionary()

    def __getitem__(self, connection: Connection) -> QueueChannel:
        with self._lock:
            shared = self._by_connection.get(connection)
            if shared is None:
                # A signal handler may have made one meanwhile.
                shared = self._by_connection.setdefault(connection, QueueChannel())
            return shared


queue_channels = QueueChannels()
"""``queue_channels[connection].channel(connection)``: the one to consume over."""
