"""One subscription, and whether it may have another message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from ..._values.model import Delivery
from ._effects import MessageDelivered
from ._message import Entry
from ._queue import Queue

if TYPE_CHECKING:
    from ._channel import Channel

_new: Final = tuple.__new__


@attrs.define(eq=False)
class Consumer:
    """One subscription of a channel to a queue."""

    tag: str
    channel: Channel
    queue: Queue
    receiver: Any
    """The driver's own; opaque here."""
    no_ack: bool
    exclusive: bool
    priority: int
    limit: int
    """Prefetch at the time it was started: later ``basic.qos`` is for later consumers."""
    unacked: int = 0
    parked: bool = False
    """Out of its queue's rotation; changed by the rotation only."""
    batch: list[Delivery] | None = None
    """What it got since its session's effects were last taken."""

    def has_room(self) -> bool:
        """Whether prefetch and the client's reading allow one more delivery."""
        channel = self.channel
        return (
            self.unacked < self.limit and (channel.held < channel.limit or self.no_ack) and not channel.session.is_full
        )

    def deliver(self, entry: Entry) -> None:
        """Give it a message; the caller has asked ``has_room``."""
        channel = self.channel
        session = channel.session
        message = entry.message
        unacked = channel.unacked
        unacked.last_tag = tag = unacked.last_tag + 1
        batch = self.batch
        if batch is None:
            self.batch = batch = []
            session.emit(MessageDelivered(self, batch))
        batch.append(
            _new(
                Delivery,
                (
                    self.tag,
                    tag,
                    entry.redelivered,
                    message.exchange,
                    message.routing_key,
                    message.properties,
                    message.body,
                ),
            )
        )
        session.outgoing += 1
        session.outgoing_bytes += len(message.body)
        if self.no_ack:
            self.queue.settle(entry)
        else:
            unacked.entries[tag] = entry
            entry.consumer = self
            self.unacked += 1
            channel.held += 1

    def resume(self) -> None:
        """Take part again if there is room, and get what waits."""
        if self.parked and self.has_room():
            self.queue.rotation.resume(self)
            self.queue.dispatch()
