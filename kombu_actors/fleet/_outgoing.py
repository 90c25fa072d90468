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
from ._publishing import Publisher

CONSUMING, PUBLISHING = "consuming", "publishing"
"""The paths of those actors."""


@attrs.frozen(eq=False)
class Outgoing:
    """What goes out over the publishing connection."""

    broker: Broker
    postponer: Postponer
    publisher: Publisher


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

    def __init__(self, address: Address, listener: Callable[[str, Event], None]) -> None:
        self.open: dict[str, Broker] = {}
        """By the actor's path."""
        self.were_up = False
        """Whether both have been connected: what comes later is no failure to start."""
        self._address = address
        self._listener = listener

    async def consume(self, ctx: ActorContext) -> None:
        """The actor of the connection that consumes."""
        await self._hold(ctx, lambda broker: broker)

    async def publish(self, ctx: ActorContext) -> None:
        """The actor of the connection that publishes."""
        await self._hold(ctx, _outgoing)

    async def _hold(self, ctx: ActorContext, value: Callable[[Broker], object]) -> None:
        def listener(event: Event) -> None:
            self._listener(ctx.path, event)

        async with self._address.open(ctx.id, keep_dialling=self.were_up, listener=listener) as broker:
            self.open[ctx.path] = broker
            self.were_up = len(self.open) == 2
            ctx.ready(value(broker))
            await ctx.stopping.wait()


def _outgoing(broker: Broker) -> Outgoing:
    postponer = Postponer(broker)
    return Outgoing(broker, postponer, Publisher(broker, postponer))
