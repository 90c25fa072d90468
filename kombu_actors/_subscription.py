"""The trio-native stream of messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import repeat

import trio

from ._native.backlog import Backlog
from ._native.block import CALL_TIMEOUT
from ._native.delivered import Delivered, Terms
from ._native.takers import Takers
from ._values.model import Delivery
from .actors.channel import Epoch
from .supervisors._interrupts import protected
from .transport._contract import DeliverySink

CHECKPOINT_EVERY = 32
"""Buffered messages a subscription hands out between two full checkpoints (~1 ms of fast handlers)."""


@protected
class Subscription:
    """A stream of messages.  Get it from ``Broker.subscribe``; it ends by leaving its block, or by ``stop``."""

    def __init__(self, terms: Terms, backlog: Backlog, leave: Callable[[float], Awaitable[None]]) -> None:
        self.giving_back = False
        """Whether ``stop(drain=False)`` was called: what is handed out and not begun had better be put back, too."""
        self.given_back = 0
        """How many messages that had been taken in were put back by ``stop(drain=False)``, and so never handed out."""
        self._terms = terms
        self._backlog = backlog
        self._leave = leave
        self._buffer: deque[tuple[Epoch, Delivery]] = deque()
        self._takers = Takers()
        self._failure: BaseException | None = None
        self._ended = False
        """Whether the iteration ends once nothing is buffered."""
        self._closed = False
        self._until_checkpoint = CHECKPOINT_EVERY

    def sink(self, epoch: Epoch) -> DeliverySink:
        """What takes the batches that the consumer actor is sent in one epoch."""
        return partial(self._put, epoch)

    def _put(self, epoch: Epoch, batch: list[Delivery]) -> None:
        """Take a batch; the backlog bounds what is taken, and so does the prefetch."""
        if self._closed:
            return  # it goes back with the channel
        if self._terms.stream is not None:
            for delivery in batch:
                self._terms.stream.sent(delivery)
        self._buffer.extend(zip(repeat(epoch), batch))
        self._backlog.grew(len(batch), sum([len(delivery.body) for delivery in batch]))
        if self._ended and self.giving_back:
            self._give_back()
        self._takers.wake(len(batch))

    @property
    def buffered(self) -> int:
        """How many messages have been taken in and not handed out yet."""
        return len(self._buffer)

    async def stop(self, *, drain: bool = True, timeout: float = CALL_TIMEOUT) -> None:
        """End the subscription at the broker: nothing more comes, and the iteration ends after what is here.

        Messages that were handed out can still be settled until the block is left.

        Args:
            drain: hand out what has been taken in, then end the iteration.  False puts it back into the queue as soon
                as nothing more comes, so that others find it while handlers here finish (with ``no_ack`` it is lost).
            timeout: seconds for the broker's answer.

        Raises:
            DeadlineExceeded, ConnectionClosed: the broker has not answered, or the block was left.

        In any case, also when it raises or is cancelled, the iteration ends, and what comes late goes back.
        """
        self.giving_back = self.giving_back or not drain
        try:
            await self._leave(timeout)
        finally:
            self._ended = True
            if self.giving_back:
                self._give_back()
            self._takers.wake_all()

    def fail(self, error: BaseException) -> None:
        """Have the iteration raise ``error``: supervision gave up on this subscription."""
        self._failure = error
        self._takers.wake_all()

    def close(self) -> None:
        """End the iteration; what is buffered goes back to the broker with the channel."""
        self._closed = True
        self._drop()
        self._takers.wake_all()

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
            while buffer and not self.giving_back:
                epoch, delivery = buffer.popleft()
                self._backlog.shrank(1, len(delivery.body))
                if epoch.wire.closed is None or self._terms.no_ack:
                    return Delivered(delivery, epoch, self._terms)
            if self._closed or self._ended:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure
            await self._takers.wait()

    def _give_back(self) -> None:
        for epoch, delivery in self._buffer:
            if epoch.wire.closed is None and not self._terms.no_ack:
                epoch.wire.nack(delivery.delivery_tag, requeue=True)
                self.given_back += 1
        self._drop()

    def _drop(self) -> None:
        self._backlog.shrank(len(self._buffer), sum(len(delivery.body) for _, delivery in self._buffer))
        self._buffer.clear()
