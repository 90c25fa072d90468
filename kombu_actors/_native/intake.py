"""One subscription in the runtime: its channel, its consumer, and the way of what it is sent to the program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from .._values.model import ConsumerSpec, Delivery, QoS
from ..actors.channel import ChannelActor, Epoch
from ..actors.connection import ConnectionActor
from ..actors.consumer import Consumer
from ..errors import ConnectionClosed
from ..supervisors._interrupts import protected
from ..transport._contract import DeliverySink
from .backlog import Backlog
from .delivered import Settles
from .place import Place
from .streams import OFFSET, StreamPosition, StreamWire


@protected
class Intake:
    """``put(channel, batch)`` is called at the program's place, and so is ``fail(error)``."""

    def __init__(
        self,
        actor: ConnectionActor,
        spec: ConsumerSpec,
        position: StreamPosition | None,
        place: Place,
        backlog: Backlog,
        put: Callable[[Settles, list[Delivery]], None],
    ) -> None:
        self._actor = actor
        self._consumer = Consumer(spec, self._sink, on_end=self._go_on)
        self._position = position
        self._place = place
        self._backlog = backlog
        self._put = put
        self._channel: ChannelActor | None = None

    async def enter(self, qos: QoS, fail: Callable[[BaseException], None]) -> None:
        """Open the channel and subscribe.  Cancelled or failed, it is to be left all the same."""

        def failed(error: BaseException) -> None:
            self._place.tell(fail, error)

        self._channel = await self._actor.open_channel(failed, qos=qos)
        await self._actor.add_consumer(self._channel, self._consumer)

    async def unsubscribe(self) -> None:
        """Have nothing more sent; what came can still be settled."""
        if self._channel is not None:
            await self._actor.remove_consumer(self._channel, self._consumer.spec.tag)

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
        self._backlog.grew(len(batch), sum([len(delivery.body) for delivery in batch]))
        self._place.tell(self._put, wire, batch)

    def _go_on(self) -> None:
        if self._position is not None:
            spec, place = self._consumer.spec, {OFFSET: self._position.resume()}
            self._consumer.spec = attrs.evolve(spec, arguments={**spec.arguments, **place})
