"""The two connections of a fleet, each held by an actor: one consumes, one publishes.

A broker with a memory or disk alarm stops reading from connections that publish: acks must not wait there.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ..broker import Broker
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected
from ..supervisors.events import Event
from ._address import Address
from ._postponing import Postponer
from ._publishes import Publishes
from ._publishing import Publisher
from .views import PublishesView

CONSUMING, PUBLISHING = "consuming", "publishing"
"""The paths of those actors."""


@attrs.frozen(eq=False)
class Outgoing:
    """What goes out over the publishing connection."""

    broker: Broker
    postponer: Postponer
    publisher: Publisher
    publishes: Publishes
    """What became of them; they are the run's, whichever connection it was."""


def consuming_broker(ctx: ActorContext) -> Broker:
    """The connection that consumes; who asks is started after it, and stopped before it."""
    broker: Broker = ctx.ref(CONSUMING).value
    return broker


def outgoing_of(ctx: ActorContext) -> Outgoing:
    """The connection that publishes, likewise."""
    outgoing: Outgoing = ctx.ref(PUBLISHING).value
    return outgoing


@protected
class Connections:
    """The actors; each holds its connection open as long as it lives."""

    def __init__(self, address: Address, listener: Callable[[str, Event], None], *, patient: bool) -> None:
        self.open: dict[str, Broker] = {}
        """Those that are, by the actor's path."""
        self.were_up = patient
        """Whether both have been connected, or are waited for: what comes then is no failure to start."""
        self.publishes = Publishes()
        self._address = address
        self._listener = listener

    def publishes_view(self) -> PublishesView:
        """What became of what was published, and whether the broker takes any now."""
        broker = self.open.get(PUBLISHING)
        return self.publishes.view(None if broker is None else broker.blocked)

    async def consume(self, ctx: ActorContext) -> None:
        """The actor of the connection that consumes."""
        await self._hold(ctx, lambda broker: broker)

    async def publish(self, ctx: ActorContext) -> None:
        """The actor of the connection that publishes."""
        await self._hold(ctx, self._outgoing)

    async def _hold(self, ctx: ActorContext, value: Callable[[Broker], object]) -> None:
        def listener(event: Event) -> None:
            self._listener(ctx.path, event)

        async with self._address.open(ctx.id, keep_dialling=self.were_up, listener=listener) as broker:
            self.open[ctx.path] = broker
            self.were_up = self.were_up or len(self.open) == 2
            try:
                ctx.ready(value(broker))
                await ctx.stopping.wait()
            finally:
                del self.open[ctx.path]  # while it is closed there is nothing to see of it

    def _outgoing(self, broker: Broker) -> Outgoing:
        postponer = Postponer(broker)
        return Outgoing(broker, postponer, Publisher(broker, postponer, self.publishes), self.publishes)
