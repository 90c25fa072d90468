"""What is asked of a connection's topology actor, by whoever declares, deletes, binds, or is about to consume."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from .._values.model import BindingSpec, Declaration, ExchangeSpec, QueueInfo, QueueSpec
from ..errors import ConnectionLost
from ..supervisors import ActorDown
from ..supervisors._interrupts import protected
from .children import Children
from .declaring import Request, TopologyActor
from .ordering import Publishes
from .session import Session
from .waitlist import Waiting

__all__ = ["OwnQueue", "TopologyCalls"]

T = TypeVar("T")
REQUEST_ATTEMPTS = 5
"""How often a declaration is repeated when the session ends over it: it may be what ends it."""


class OwnQueue:
    """A queue of a connection's own; its ``name`` is the first that the broker gave it, None until it is declared."""

    def __init__(self) -> None:
        self.name: str | None = None


@protected
class TopologyCalls:
    """The topology of one connection, to be changed and asked about.

    Each call waits out restarts; the deadline is the caller's cancel scope.
    """

    def __init__(self, actor: TopologyActor, children: Children, session: Session, publishes: Publishes) -> None:
        self._actor = actor
        self._children = children
        self._session = session
        self._publishes = publishes

    @property
    def waiting(self) -> list[Waiting]:
        """What of the declared topology the broker refuses to restore just now, and when it is tried again."""
        return list(self._actor.waiting)

    async def wait_ready(self) -> None:
        """Wait until the session is up and the declared topology holds, but for what waits."""
        while True:
            await self._children.wait_ready("topology")
            if self._session.is_up:
                return
            await trio.lowlevel.checkpoint()  # it has just ended, and who was READY over it does not know yet

    # For consumers

    def doubt(self, queue: str) -> None:
        """A consumer of a queue has ended: the queue may be gone with it."""
        self._actor.doubt(queue)

    def is_doubtful(self, queue: str) -> bool:
        """Whether a queue is to be there, and may not be."""
        return self._actor.is_doubtful(queue)

    async def prepare_to_consume(self, queue: str, exclusive: bool) -> None:
        """Have a queue there before it is consumed from; see ``TopologyActor.prepare_to_consume``."""
        if exclusive or not self._actor.is_made(queue):
            await self._request(lambda actor: actor.prepare_to_consume(queue, exclusive))

    async def end_unused(self, queue: str) -> None:
        """Delete a queue that should have gone with its last consumer, unless somebody consumes from it."""
        await self._request(lambda actor: actor.end_unused(queue))

    async def restore_queue(self, queue: str) -> None:
        """Have a queue there that may have gone; what the broker refuses waits, as in any restoration."""
        await self._request(lambda actor: actor.restore_queue(queue))

    # For the program

    async def declare_exchange(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        """Declare an exchange, now and in every later session; passively only look whether it is there."""
        await self._request(lambda actor: actor.declare_exchange(spec, passive))

    async def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange and forget it, with its bindings."""
        await self._request(lambda actor: actor.delete_exchange(name, if_unused))

    async def declare_queue(self, spec: QueueSpec, *, passive: bool = False) -> QueueInfo:
        """Declare a queue, now and in every later session; passively only ask how it stands."""
        return await self._request(lambda actor: actor.declare_queue(spec, passive))

    async def declare_all(self, entities: Sequence[Declaration]) -> QueueInfo | None:
        """Declare entities in order, now and in every later session; see ``TopologyActor.declare_all``."""
        return await self._request(lambda actor: actor.declare_all(entities))

    async def declare_own_queue(self, own: OwnQueue) -> str:
        """Declare a queue that the broker names, once, whoever gives up waiting for that; returns its name."""

        async def declare(actor: TopologyActor) -> str:
            if own.name is None:
                own.name = (await actor.declare_queue(QueueSpec(name="", exclusive=True, durable=False), False)).name
            return own.name

        return await self._request(declare)

    async def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue and forget it, with its bindings; returns how many messages went with it."""
        return await self._request(lambda actor: actor.delete_queue(name, if_unused, if_empty))

    async def purge_queue(self, name: str) -> int:
        """Remove a queue's ready messages; returns how many there were."""
        return await self._request(lambda actor: actor.purge_queue(name))

    async def bind(self, binding: BindingSpec) -> None:
        """Make a binding, now and in every later session."""
        await self._request(lambda actor: actor.bind(binding))

    async def unbind(self, binding: BindingSpec) -> None:
        """Remove a binding and forget it."""
        await self._request(lambda actor: actor.unbind(binding))

    async def _request(self, perform: Callable[[TopologyActor], Awaitable[T]]) -> T:
        """Have the topology actor perform something, again if a restart interrupted it.

        All its operations may be repeated: declaring, binding and deleting twice is the same as once.
        """
        await self._publishes.come_first(self._session.link, own=False)
        for _ in range(REQUEST_ATTEMPTS):
            ref = self._children.supervisor.ref("topology")
            try:
                answer: T = await ref.ask(Request(perform), timeout=None)
                return answer
            except ActorDown:
                await self.wait_ready()
        raise ConnectionLost(
            f"the session ended {REQUEST_ATTEMPTS} times in a row while the broker was working on this"
        )
