"""How publishes and settlements leave a thread for the runtime."""

from __future__ import annotations

from ._portal import Portal
from .actors.channel import ChannelActor, Settlement
from .actors.publisher import WINDOW_BYTES, WINDOW_MESSAGES
from .errors import DeadlineExceeded
from .protocols.ledger import Entry


class Outlet:
    """How threads hand publishes and settlements to one channel, without waiting for the runtime.

    Small publishes go into the channel's bag, which the runtime empties in batches; large ones
    are handed over one by one, so that what waits in the bag is bounded in bytes as well.
    """

    LARGE = WINDOW_BYTES // WINDOW_MESSAGES

    def __init__(self, portal: Portal, channel: ChannelActor) -> None:
        self._portal = portal
        self._channel = channel

    def publish(self, entry: Entry, timeout: float) -> None:
        """Have one publish accepted; waits, at most ``timeout`` seconds, only when the window is full.

        Raises:
            DeadlineExceeded, ConnectionBlocked: the window stayed full: the broker confirms nothing.
        """
        channel = self._channel
        publisher = channel.publisher
        try:
            if entry.size > self.LARGE:
                self._portal.call(self._accept, entry, timeout=timeout)
                return
            if len(channel.bag) + len(publisher.ledger) >= WINDOW_MESSAGES:
                self._portal.call(publisher.wait_half_empty, timeout=timeout)
        except DeadlineExceeded:
            raise publisher.too_late(entry, timeout) from None
        channel.bag.append(entry)
        if not channel.bag_posted:
            channel.bag_posted = True
            self._portal.post(channel.collect)

    def send(self, entry: Entry, timeout: float) -> None:
        """Publish and wait for the outcome; see ``Publisher.send``."""
        self._portal.call(self._channel.publisher.send, entry, timeout, timeout=None)

    def settle(self, settlement: Settlement) -> None:
        """Hand over one ack, reject or requeue.  Never waits."""
        channel = self._channel
        channel.bag.append(settlement)
        if not channel.bag_posted:
            channel.bag_posted = True
            self._portal.post(channel.collect)

    async def _accept(self, entry: Entry) -> None:
        publisher = self._channel.publisher
        await publisher.wait_room()
        publisher.accept(entry)
