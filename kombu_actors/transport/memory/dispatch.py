"""What the broker in memory has to say to one link, handed to whom it concerns, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from ...errors import ConnectionLost
from ...protocols import virtual
from .._waiting import Outbox
from .channel import WireConsumer

if TYPE_CHECKING:
    from .broker import MemoryBroker
    from .link import MemoryLink

__all__ = ["MemoryDispatcher"]


class MemoryDispatcher:
    """The one task that serves a link."""

    def __init__(self, link: MemoryLink, broker: MemoryBroker) -> None:
        self.serving = False
        self.leaving = False
        """``aclose`` waits for the broker's goodbye."""
        self.paused = False
        self.wakes_at = inf
        """Until when it sleeps, for whoever plans something earlier."""
        self.outbox = Outbox()
        self.held: deque[Callable[[], object]] = deque()
        """What we would have written to a socket that the broker does not read; the caller bounds it."""
        self._link = link
        self._broker = broker

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Serve until the link is dead."""
        link, session = self._link, self._link.session
        while link.closed is None:
            if self.held and not session.blocked:
                self._broker.act(link, self.held.popleft())
            elif session.effects and not (self.paused and link.may_pause()):
                for effect in self._broker.collect(link):
                    _PERFORM[type(effect)](self, effect)
                await trio.lowlevel.checkpoint()
            else:
                await self._sleep(session.broker)

    async def _sleep(self, host: virtual.VirtualBroker) -> None:
        self.wakes_at = deadline = host.next_deadline
        if deadline == inf:
            await self.outbox.wait()
            return
        with trio.move_on_after(max(0.0, deadline - self._broker.clock())):
            await self.outbox.wait()
        self._broker.tick()

    def _on_delivered(self, effect: virtual.MessageDelivered) -> None:
        subscription: WireConsumer = effect.consumer.receiver
        channel = subscription.channel
        if channel.closed is None:
            batch, body_max = effect.batch, self._link.body_max
            if any(len(delivery.body) > body_max for delivery in batch):
                queue = effect.consumer.queue.spec.name
                batch = channel.without_oversized(batch, queue, no_ack=effect.consumer.no_ack)
            if batch:
                channel.highest_tag = batch[-1].delivery_tag
                subscription.sink(batch)

    def _on_confirmed(self, effect: virtual.Confirmed) -> None:
        channel = self._link.channels.get(effect.channel.number)
        if channel is not None:
            channel.hear_confirm(effect)

    def _on_returned(self, effect: virtual.MessageReturned) -> None:
        channel = self._link.channels.get(effect.channel.number)
        if channel is not None:
            channel.hear_return(effect)

    def _on_replied(self, effect: virtual.Replied) -> None:
        effect.call()

    def _on_cancelled(self, effect: virtual.ConsumerCancelled) -> None:
        subscription: WireConsumer = effect.consumer.receiver
        if subscription.channel.closed is None:
            subscription.on_cancel()

    def _on_channel_closed(self, effect: virtual.ChannelClosed) -> None:
        channel = self._link.channels.get(effect.channel.number)
        if channel is not None:
            channel.die(effect.error)
            self._link.forget(channel)

    def _on_closed(self, effect: virtual.SessionClosed) -> None:
        error = effect.error
        reason = ConnectionLost(f"the connection to {self._link.name} was lost: {error.reply_code} {error.reply_text}")
        reason.__cause__ = error
        self._link.kill(reason)

    def _on_blocked(self, effect: virtual.SessionBlocked) -> None:
        self._link.alarm.change(effect.reason)


_PERFORM: Final[dict[type, Callable[..., None]]] = {
    virtual.MessageDelivered: MemoryDispatcher._on_delivered,
    virtual.Confirmed: MemoryDispatcher._on_confirmed,
    virtual.MessageReturned: MemoryDispatcher._on_returned,
    virtual.Replied: MemoryDispatcher._on_replied,
    virtual.ConsumerCancelled: MemoryDispatcher._on_cancelled,
    virtual.ChannelClosed: MemoryDispatcher._on_channel_closed,
    virtual.SessionClosed: MemoryDispatcher._on_closed,
    virtual.SessionBlocked: MemoryDispatcher._on_blocked,
}
