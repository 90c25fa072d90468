"""The trio-native stream of messages: ``Subscription`` and what it yields, ``Delivered``."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping
from typing import Any

import trio

from ._native.backlog import Backlog
from ._values.model import Action, Delivery
from .actors.channel import Epoch
from .compression import decompress
from .errors import MessageStateError, StaleDelivery
from .serialization import loads, registry
from .supervisors._interrupts import protected, unprotected

CHECKPOINT_EVERY = 32
"""Buffered messages a subscription hands out between two full checkpoints (~1 ms of fast handlers)."""


@protected
class Delivered:
    """A message from a subscription.  Exactly one of ``ack``, ``reject`` and ``requeue``, once."""

    __slots__ = ("_decided", "_epoch", "_subscription", "delivery")

    def __init__(self, delivery: Delivery, epoch: Epoch, subscription: Subscription) -> None:
        self.delivery = delivery
        self._epoch = epoch
        self._subscription = subscription
        self._decided = False

    def __repr__(self) -> str:
        d = self.delivery
        return f"<Delivered {d.delivery_tag} from {d.exchange!r}/{d.routing_key!r}, {len(d.body)} bytes>"

    @property
    def body(self) -> bytes:
        """The raw body."""
        return self.delivery.body

    @property
    def headers(self) -> Mapping[str, Any]:
        """Application headers; shared, don't change them."""
        return self.delivery.properties.get("headers") or {}

    @property
    def properties(self) -> Mapping[str, Any]:
        """Message properties under AMQP's names; shared, don't change them."""
        return self.delivery.properties

    @property
    def redelivered(self) -> bool:
        """Whether the broker may have delivered it before."""
        return self.delivery.redelivered

    @property
    def payload(self) -> Any:
        """The body as the publisher's Python value.

        Raises:
            ContentDisallowed: its content type isn't accepted (checked before anything is decoded).
            DecodeError: it isn't what it claims to be.
        """
        return unprotected(self._decode)

    def _decode(self) -> Any:
        properties = self.delivery.properties
        content_type = properties.get("content_type")
        accept = self._subscription.accept
        registry.check_content(content_type, accept)
        compression = self.headers.get("compression")
        body = decompress(self.body, compression) if compression else self.body
        return loads(body, content_type, properties.get("content_encoding"), accept)

    def ack(self) -> None:
        """Tell the broker that the message is done with.

        Raises:
            MessageStateError: it was decided before.
            StaleDelivery: its channel died since; nothing is sent, the broker delivers it again.
            ConnectionClosed: likewise, as the block of ``open_broker`` was left.
        """
        if not self._subscription.no_ack:
            self._decide(Action.ACK, False)

    def reject(self) -> None:
        """Have the broker drop or dead-letter the message.  Raises as ``ack``."""
        self._decide(Action.REJECT, False)

    def requeue(self) -> None:
        """Put the message back into its queue.  Raises as ``ack``."""
        self._decide(Action.REJECT, True)

    def _decide(self, action: Action, flag: bool) -> None:
        if self._decided or self._subscription.no_ack:
            raise MessageStateError("the message was decided before, or consumed with no_ack")
        wire = self._epoch.wire
        if wire.closed is not None:
            self._subscription.check_open()
            raise StaleDelivery("the channel this message came over has died; the broker delivers the message again")
        self._decided = True
        if action is Action.ACK:
            wire.ack(self.delivery.delivery_tag)
        else:
            wire.reject(self.delivery.delivery_tag, requeue=flag)


@protected
class Subscription:
    """An endless stream of messages.  Get it from ``Broker.subscribe``; ends only by leaving its block."""

    def __init__(self, accept: Container[str] | None, no_ack: bool, backlog: Backlog) -> None:
        self.accept = accept
        self.no_ack = no_ack
        self._backlog = backlog
        self._buffer: deque[tuple[Epoch, Delivery]] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._failure: BaseException | None = None
        self._closed = False
        self._until_checkpoint = CHECKPOINT_EVERY

    def put(self, epoch: Epoch, batch: list[Delivery]) -> None:
        """Take a batch from the consumer actor; the backlog bounds what is taken, and so does the prefetch."""
        if self._closed:
            return  # it goes back with the channel
        self._buffer.extend((epoch, delivery) for delivery in batch)
        self._backlog.grew(len(batch), sum(len(delivery.body) for delivery in batch))
        self._arrived.unpark(count=len(batch))

    @property
    def buffered(self) -> int:
        """How many messages have been taken in and not handed out yet."""
        return len(self._buffer)

    def fail(self, error: BaseException) -> None:
        """Have the iteration raise ``error``: supervision gave up on this subscription."""
        self._failure = error
        self._arrived.unpark_all()

    def check_open(self) -> None:
        """Raise what ``fail`` was given."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the iteration; what is buffered goes back to the broker with the channel."""
        self._closed = True
        self._backlog.shrank(len(self._buffer), sum(len(delivery.body) for _, delivery in self._buffer))
        self._buffer.clear()
        self._arrived.unpark_all()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Delivered:
        """The next message.  Cancellation takes none.

        While messages are buffered only every 32nd call yields to other tasks; each call can be cancelled.
        """
        self._until_checkpoint -= 1
        if self._until_checkpoint <= 0:
            self._until_checkpoint = CHECKPOINT_EVERY
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        buffer = self._buffer
        while True:
            while buffer:
                epoch, delivery = buffer.popleft()
                self._backlog.shrank(1, len(delivery.body))
                if epoch.wire.closed is None or self.no_ack:
                    return Delivered(delivery, epoch, self)
            if self._closed:
                raise StopAsyncIteration
            self.check_open()
            await self._arrived.park()
