"""One subscription in the runtime: its channel, its consumer, and the way of what it is sent to the program."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from .._values.model import ConsumerSpec, Delivery, QoS
from ..actors.channel import ChannelActor, Epoch
from ..actors.connection import ConnectionActor
from ..actors.consumer import DesiredConsumer
from ..actors.renewing import Renewal, is_expected, renew
from ..errors import ConnectionClosed
from ..supervisors._interrupts import protected
from .backlog import Backlog
from .delivered import Settles
from .place import Place
from .streams import OFFSET, StreamPosition, StreamWire

if TYPE_CHECKING:
    from ..transport._contract import DeliverySink

AT_ONCE = 100
"""Subscriptions of one broker that begin at a time: no slower than more, since broker and this side have enough to do
meanwhile, and of a thousand the others need not hold the memory of a beginning, which a process keeps for good."""


def beginnings() -> trio.CapacityLimiter:
    """Turns for the subscriptions of one broker to begin."""
    return trio.CapacityLimiter(AT_ONCE)


class Receiver(Protocol):
    """Who gets what comes; called at the program's place."""

    def put(self, wire: Settles, batch: list[Delivery]) -> None:
        """Take a batch that came over a channel."""

    def fail(self, error: BaseException) -> None:
        """Supervision gave up."""


@protected
class Intake:
    """A subscription's line; ``turns`` bounds how many begin at a time."""

    __slots__ = ("_actor", "_backlog", "_channel", "_consumer", "_place", "_position", "_turns", "receiver")

    def __init__(
        self,
        actor: ConnectionActor,
        spec: ConsumerSpec,
        position: StreamPosition | None,
        place: Place,
        backlog: Backlog,
        turns: trio.CapacityLimiter,
    ) -> None:
        self.receiver: Receiver
        """Set before it is entered."""
        self._actor = actor
        self._consumer = DesiredConsumer(spec, self._sink, on_end=self._go_on)
        self._position = position
        self._place = place
        self._backlog = backlog
        self._turns = turns
        self._channel: ChannelActor | None = None

    async def enter(self, qos: QoS) -> None:
        """Open the channel and subscribe.  Cancelled or failed, it is to be left all the same."""
        async with self._turns:
            self._channel = await self._actor.open_channel(self._failed, qos=qos)
            await self._actor.consumers.add(self._channel, self._consumer)

    def _failed(self, error: BaseException) -> None:
        self._place.tell(self.receiver.fail, error)

    async def stop(self, timeout: float) -> None:
        """Have nothing more sent; what came can still be settled."""
        what = f"ending the subscription to queue {self._consumer.spec.queue!r}"
        await self._place.call(what, timeout, self._unsubscribe)

    async def _unsubscribe(self) -> None:
        if self._channel is not None:
            await self._actor.consumers.remove(self._channel, self._consumer.spec.tag)

    async def renew(self, what: Renewal, timeout: float) -> None:
        """Have it made anew, with as much as ``what`` says."""
        channel = self._channel
        assert channel is not None  # entered
        begin = partial(renew, self._actor, channel, self._consumer, what)
        await self._place.call(f"making the {what.value} of queue {self._consumer.spec.queue!r} anew", timeout, begin)

    @property
    def grants(self) -> int:
        """How often the broker has granted the subscription."""
        return self._consumer.grants

    @property
    def expecting(self) -> bool:
        """Whether messages should come if the queue has any."""
        return not self._backlog.paused and is_expected(self._actor, self._consumer)

    async def leave(self) -> None:
        """Close the channel, unless the connection is being closed with it; what is not settled goes back."""
        if self._channel is not None:
            try:
                await self._actor.close_channel(self._channel)
            except Exception as error:
                if not isinstance(error, ConnectionClosed) and error is not self._actor.failure:
                    raise

    def _sink(self, epoch: Epoch) -> DeliverySink:
        wire: Settles = epoch.wire
        if self._position is not None:
            wire = StreamWire(wire, self._position)
        return partial(self._take, self._place.settling(wire))

    def _take(self, wire: Settles, batch: list[Delivery]) -> None:
        if self._position is not None:
            self._position.sent(batch)
        # One alone is what comes where there are many consumers.
        alone = len(batch) == 1
        size = len(batch[0].body) if alone else sum([len(delivery.body) for delivery in batch])
        self._backlog.grew(len(batch), size)
        self._place.tell(self.receiver.put, wire, batch)

    def _go_on(self) -> None:
        if self._position is not None:
            spec, place = self._consumer.spec, {OFFSET: self._position.resume()}
            self._consumer.spec = spec.but(arguments={**spec.arguments, **place})
