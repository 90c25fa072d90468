"""How many messages are where: in each queue of a fleet, in its dead letters, and in the delays between attempts.

async with fleet.depths() as depths:
    for queue in (await depths.look()).queues:
        print(queue.queue, queue.ready, queue.dead)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

import attrs
import trio

from ..broker import Broker, QueueInfo
from ..errors import AccessRefused, NotFound, ResourceLocked
from ..supervisors._interrupts import guarded, protected
from ._address import Address
from ._delays import delay_of
from ._plans import ConsumerPlan
from .documents import DepthsDocument

__all__ = ["DelayDepth", "Depths", "FleetDepths", "QueueDepth", "open_depths"]

LOOK_TIMEOUT = 10.0
"""Seconds for a whole look: a thousand queues take one, and who asks has not gone away yet."""


@attrs.frozen(kw_only=True)
class QueueDepth:
    """One queue that the fleet consumes.  A figure is None when there is no such queue, or it can't be looked at."""

    queue: str
    ready: int | None
    """Messages that wait in it; those that consumers have in hand are not among them."""
    consumers: int | None
    """Who consumes it, in all programs."""
    dead_letter: str
    """The queue of its dead letters."""
    dead: int | None
    """Messages in that."""
    delays: tuple[float, ...]
    """Seconds before its further attempts: ``FleetDepths.delays`` tells how many wait."""


@attrs.frozen(kw_only=True)
class DelayDepth:
    """Messages that wait for their next attempt."""

    seconds: float
    """How long each of them waits in all."""
    waiting: int | None
    """How many: those of all queues of all fleets on this virtual host, which share one queue for each delay."""


@attrs.frozen(kw_only=True)
class FleetDepths:
    """The queues of a fleet at one moment."""

    queues: tuple[QueueDepth, ...]
    delays: tuple[DelayDepth, ...]
    """Those of the fleet's retries, the shortest first.  What handlers snooze, and clients publish with a delay, may
    wait in others: a broker doesn't tell which there are."""

    def to_dict(self) -> DepthsDocument:
        """JSON-able."""
        return cast(DepthsDocument, attrs.asdict(self))


@guarded
async def open_depths(address: Address, consumers: Sequence[ConsumerPlan]) -> AsyncIterator[Depths]:
    """Connect to where the queues are; raises as ``open_broker``."""
    async with address.open("depths") as broker:
        yield Depths(broker, tuple(consumers))


@protected
class Depths:
    """Counts the messages of a fleet's queues.  Get it from ``Fleet.depths``."""

    def __init__(self, broker: Broker, consumers: tuple[ConsumerPlan, ...]) -> None:
        self._broker = broker
        self._consumers = consumers

    async def look(self, *, timeout: float = LOOK_TIMEOUT) -> FleetDepths:
        """Count them now: one short question to the broker for each queue.

        Raises:
            DeadlineExceeded: the broker has not answered within ``timeout`` seconds.
            ConnectionLost: the connection was lost meanwhile; ask again.
        """
        at = trio.current_time() + timeout
        queues = []
        for plan in self._consumers:
            info = await self._count(plan.name, at)
            dead = await self._count(plan.dead_letter, at)
            queues.append(
                QueueDepth(
                    queue=plan.name,
                    ready=None if info is None else info.messages,
                    consumers=None if info is None else info.consumers,
                    dead_letter=plan.dead_letter,
                    dead=None if dead is None else dead.messages,
                    delays=waits(plan),
                )
            )
        delays = []
        for seconds in sorted({seconds for plan in self._consumers for seconds in waits(plan)}):
            info = await self._count(delay_of(seconds).name, at)
            delays.append(DelayDepth(seconds=seconds, waiting=None if info is None else info.messages))
        return FleetDepths(queues=tuple(queues), delays=tuple(delays))

    async def _count(self, queue: str, at: float) -> QueueInfo | None:
        try:
            return await self._broker.inspect_queue(queue, timeout=max(at - trio.current_time(), 0.0))
        except (NotFound, ResourceLocked, AccessRefused):
            return None


def waits(plan: ConsumerPlan) -> tuple[float, ...]:
    """The delays at the broker before a consumer's further attempts; a lane that blocks has none there."""
    return () if plan.on_error == "block" else plan.retry.delays
