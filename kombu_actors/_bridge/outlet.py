"""How publishes and settlements leave a thread: alone and at once, or in a bag for the runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import get_ident, main_thread
from time import monotonic
from typing import Any

from .._values.model import Sent
from ..actors.channel import Action, ChannelActor, Settlement
from ..actors.publisher import WINDOW_BYTES, WINDOW_MESSAGES
from ..errors import ConnectionLost, DeadlineExceeded, PublishUnknown
from ..protocols.ledger import Entry
from .ensuring import in_ensure
from .portal import Portal

LONE_AFTER = 0.0001
"""Seconds of silence after which a publish counts as alone: above the pace of any loop (~10 us), below a
round trip to the broker (~150 us), so that asking and answering goes past the runtime."""
LARGE = WINDOW_BYTES // WINDOW_MESSAGES
"""Bytes above which a publish is handed over by itself: bounds what waits in the bag in bytes, too."""


class Outlet:
    """How threads hand publishes and settlements to one channel.

    What comes in a row goes into the channel's bag, which the runtime empties in batches.  What
    comes alone is written by the calling thread itself, when nothing waits before it: that
    spares a lone message the waking of the runtime.  Large publishes are handed over one by one.
    """

    def __init__(self, portal: Portal, channel: ChannelActor) -> None:
        self._portal = portal
        self._channel = channel
        self._last_publish = 0.0

    def publish(self, entry: Entry, timeout: float) -> None:
        """Have one publish accepted; waits, at most ``timeout`` seconds, only when the window is full.

        Raises:
            ValueError: it can't be sent within the limits agreed on with the broker; nothing was accepted.
            DeadlineExceeded, ConnectionBlocked: the window stayed full: the broker confirms nothing.
        """
        channel = self._channel
        publisher = channel.publisher
        publisher.check(entry)
        try:
            if entry.size > LARGE:
                self._portal.call(self._accept, entry, timeout=timeout)
                return
            if len(channel.bag) + publisher.under_way >= WINDOW_MESSAGES:
                self._portal.call(publisher.wait_half_empty, timeout=timeout)
        except DeadlineExceeded:
            raise publisher.too_late(entry, timeout) from None
        now = monotonic()
        alone, self._last_publish = now - self._last_publish > LONE_AFTER, now
        if not (alone and channel.idle and self._left(publisher.publish_now, entry)):
            self._into_bag(entry)

    def send(self, entry: Entry, timeout: float) -> None:
        """Publish and wait for the outcome; see ``Publisher.send``.

        Inside an ensured function the wait ends with the session: what follows is the function's caller's to say.
        """
        channel = self._channel
        if not in_ensure():
            self._portal.call(channel.publisher.send, entry, timeout, timeout=None)
            return
        send = partial(channel.publisher.send, entry, timeout)
        try:
            self._portal.call(channel.owner.on_this_session, send, timeout=None)
        except ConnectionLost as lost:
            if not entry.attempted:
                raise
            raise PublishUnknown(
                f"the session ended before the broker confirmed the message to exchange {entry.exchange!r}, routing "
                f"key {entry.routing_key!r}: the broker may have it; publishing again may duplicate it"
            ) from lost

    def settle(self, settlement: Settlement, *, alone: bool) -> None:
        """Hand over one ack, reject or requeue, ``alone`` when no other is to be expected soon.  Never waits."""
        epoch, action, tag, multiple = settlement
        if not (
            alone
            and action is Action.ACK
            and self._channel.idle
            and self._left(partial(epoch.wire.ack_now, tag, multiple=multiple))
        ):
            self._into_bag(settlement)

    def _left(self, send: Callable[..., Sent], *args: Any) -> bool:
        portal = self._portal
        in_main = get_ident() == main_thread().ident
        outer = in_main and portal.main_writes  # a signal handler may write in the middle of a write
        try:
            if in_main:
                portal.main_writes = True
            sent = send(*args)
        except BaseException:
            portal.post(self._channel.flush)  # interrupted, perhaps half-way
            raise
        finally:
            if in_main:
                portal.main_writes = outer
        if sent is Sent.PART:
            self._portal.post(self._channel.flush)
        return sent is not Sent.NOTHING

    def _into_bag(self, item: Entry | Settlement) -> None:
        channel = self._channel
        try:
            channel.bag.append(item)
            if not channel.bag_posted:
                channel.bag_posted = True
                self._portal.post(channel.collect)
        except BaseException:
            self._portal.post(channel.collect)  # who was interrupted may have said so and not have done it
            raise

    async def _accept(self, entry: Entry) -> None:
        publisher = self._channel.publisher
        await publisher.wait_room()
        publisher.accept(entry)
