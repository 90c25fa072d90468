"""The stream of messages, for tasks of trio's and of asyncio's alike."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Protocol

from ._native.delivered import Delivered, Settles, Terms
from ._native.place import CALL_TIMEOUT
from ._values.model import Delivery
from .actors.renewing import Renewal
from .supervisors._interrupts import protected
from .supervisors._lots import Lot

CHECKPOINT_EVERY = 32
"""Buffered messages a subscription hands out between two full checkpoints (~1 ms of fast handlers)."""


class Line(Protocol):
    """Where a subscription's messages come from; see ``Subscription`` for each."""

    @property
    def grants(self) -> int: ...
    @property
    def expecting(self) -> bool: ...
    async def renew(self, what: Renewal, timeout: float) -> None: ...
    async def stop(self, timeout: float) -> None: ...


@protected
class Subscription:
    """A stream of messages.  Get it from ``Broker.subscribe``; it ends by leaving its block, or by ``stop``."""

    __slots__ = (
        "_arrived",
        "_buffer",
        "_closed",
        "_ended",
        "_failure",
        "_line",
        "_shrank",
        "_terms",
        "_until_checkpoint",
        "arrived",
        "given_back",
        "giving_back",
    )

    def __init__(self, terms: Terms, shrank: Callable[[int, int], object], line: Line, lot: Lot) -> None:
        self.giving_back = False
        """Whether ``stop(drain=False)`` was called: what is handed out and not begun had better be put back, too."""
        self.given_back = 0
        """How many messages that had been taken in were put back by ``stop(drain=False)``, and so never handed out."""
        self.arrived = 0
        """How many messages have come, over all sessions; also those that were sent again."""
        self._terms = terms
        self._shrank = shrank
        """Told how many messages, of how many bytes, are not buffered any more."""
        self._line = line
        self._buffer: list[tuple[Settles, Delivery]] = []
        """The latest first, so that the oldest is popped off the end; an empty deque takes ten times as much memory.
        Bounded by the prefetch, and by the backlog, which counts messages when they come."""
        self._arrived = lot
        self._failure: BaseException | None = None
        self._ended = False
        """Whether the iteration ends once nothing is buffered."""
        self._closed = False
        self._until_checkpoint = CHECKPOINT_EVERY

    def put(self, wire: Settles, batch: list[Delivery]) -> None:
        """Take a batch that came over a channel."""
        self.arrived += len(batch)
        if len(batch) == 1:
            self._buffer.insert(0, (wire, batch[0]))
        else:
            self._buffer[:0] = zip(repeat(wire), reversed(batch))
        if self._closed:
            self._drop()  # it goes back with the channel
        elif self._ended and self.giving_back:
            self._give_back()
        else:
            self._arrived.unpark(len(batch))

    @property
    def buffered(self) -> int:
        """How many messages have been taken in and not handed out yet."""
        return len(self._buffer)

    @property
    def grants(self) -> int:
        """How often the broker has granted it: once, and again after each fault."""
        return self._line.grants

    @property
    def expecting(self) -> bool:
        """Whether messages should come if the queue has any and the prefetch has room: there is a session, the broker
        doesn't refuse the subscription (as one who waits for exclusive access is), and reading isn't held up by what
        has been taken in (``buffer_max``)."""
        return self._line.expecting

    async def renew(self, what: Renewal, *, timeout: float = CALL_TIMEOUT) -> None:
        """Have it made anew, for who knows that it should get messages and doesn't.

        Supervision restarts the consumer, its channel, or the session of all the connection's channels; what has to be
        delivered again is said at ``Renewal``.  Returns when that has begun; in force again, ``grants`` has grown.

        Raises:
            DeadlineExceeded, ConnectionClosed: it didn't come to that.
        """
        await self._line.renew(what, timeout)

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
            await self._line.stop(timeout)
        finally:
            self._ended = True
            if self.giving_back:
                self._give_back()
            self._arrived.unpark_all()

    def fail(self, error: BaseException) -> None:
        """Have the iteration raise ``error``: supervision gave up on this subscription."""
        self._failure = error
        self._arrived.unpark_all()

    def close(self) -> None:
        """End the iteration; what is buffered goes back to the broker with the channel."""
        self._closed = True
        self._drop()
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
            await self._arrived.checkpoint()
        else:
            await self._arrived.checkpoint_if_cancelled()
        buffer = self._buffer
        while True:
            while buffer and not self.giving_back:
                wire, delivery = buffer.pop()
                self._shrank(1, len(delivery.body))
                if wire.closed is None or self._terms.no_ack:
                    return Delivered(delivery, wire, self._terms)
            if self._closed or self._ended:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure
            await self._arrived.park()

    def _give_back(self) -> None:
        for wire, delivery in reversed(self._buffer):
            if wire.closed is None and not self._terms.no_ack:
                wire.nack(delivery.delivery_tag, requeue=True)
                self.given_back += 1
        self._drop()

    def _drop(self) -> None:
        self._shrank(len(self._buffer), sum(len(delivery.body) for _, delivery in self._buffer))
        self._buffer.clear()
