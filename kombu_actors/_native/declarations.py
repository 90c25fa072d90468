"""The part of ``Broker`` that declares, looks at and deletes queues, exchanges and bindings."""

from __future__ import annotations

import math
from functools import partial
from typing import overload

from .._values.model import BindingSpec, Declaration, ExchangeSpec, QueueInfo, QueueSpec
from ..actors.connection import ConnectionActor
from ..actors.waitlist import Waiting
from ..supervisors._interrupts import protected
from .place import CALL_TIMEOUT, Place


@protected
class Declarations:
    """The calls about the topology of a connection."""

    _actor: ConnectionActor
    _place: Place

    @overload
    async def declare(self, queue: QueueSpec, /, *more: Declaration, timeout: float = ...) -> QueueInfo: ...
    @overload
    async def declare(
        self, exchange: ExchangeSpec, queue: QueueSpec, /, *more: Declaration, timeout: float = ...
    ) -> QueueInfo: ...
    @overload
    async def declare(self, *entities: Declaration, timeout: float = ...) -> QueueInfo | None: ...

    async def declare(self, *entities: Declaration, timeout: float = CALL_TIMEOUT) -> QueueInfo | None:
        """Declare entities, in order, now and in every later session; many queues that follow one another, with
        bindings to them, together, so that a thousand take a second.

        Returns what the last queue among them answered: its name, and how many messages and consumers it has.

        Raises:
            PreconditionFailed, AccessRefused, ResourceLocked: the broker's refusal; nobody else is disturbed.
                Of queues that were declared together those behind the refused one may have been declared.

        Cancellation, and the deadline, leave the declaration under way: it may or may not happen.
        """
        declare = partial(self._actor.topology_calls.declare_all, entities)
        return await self._place.call("declaring", timeout, declare)

    async def inspect_queue(self, name: str, *, timeout: float = CALL_TIMEOUT) -> QueueInfo:
        """How many messages and consumers a queue has; ``NotFound`` when there is none."""
        look = partial(self._actor.topology_calls.declare_queue, QueueSpec(name=name), passive=True)
        return await self._place.call(f"looking at queue {name!r}", timeout, look)

    async def unbind(self, binding: BindingSpec, *, timeout: float = CALL_TIMEOUT) -> None:
        """Remove a binding, for good."""
        await self._place.call("unbinding", timeout, partial(self._actor.topology_calls.unbind, binding))

    async def delete_queue(
        self, name: str, *, if_unused: bool = False, if_empty: bool = False, timeout: float = CALL_TIMEOUT
    ) -> int:
        """Delete a queue, for good; returns how many messages went with it."""
        delete = partial(self._actor.topology_calls.delete_queue, name, if_unused=if_unused, if_empty=if_empty)
        return await self._place.call(f"deleting queue {name!r}", timeout, delete)

    async def delete_exchange(self, name: str, *, if_unused: bool = False, timeout: float = CALL_TIMEOUT) -> None:
        """Delete an exchange, for good."""
        delete = partial(self._actor.topology_calls.delete_exchange, name, if_unused=if_unused)
        await self._place.call(f"deleting exchange {name!r}", timeout, delete)

    async def purge_queue(self, name: str, *, timeout: float = CALL_TIMEOUT) -> int:
        """Remove a queue's ready messages; returns how many there were."""
        return await self._place.call(
            f"purging queue {name!r}", timeout, partial(self._actor.topology_calls.purge_queue, name)
        )

    def queue_name(self, name: str) -> str:
        """The name by which the broker knows a queue now.

        A queue that the broker named has another name when it had to be made again after a fault.  It goes by any of
        its names in all calls here, ``publish``'s ``routing_key`` (to the default exchange) and ``reply_to``
        included; others have to be told this one.  ``QueueRenamed`` is the event.
        """
        return self._actor.topology.names.current(name)

    def waiting(self) -> list[Waiting]:
        """What of the declared topology the broker refuses to restore just now: why, since when, and when it is
        tried again.  Consumers that wait are ``BACKING_OFF`` in the snapshot."""
        return self._actor.topology_calls.waiting

    async def wait_ready(self, *, timeout: float = math.inf) -> None:
        """Wait until the session is up and the declared topology holds, but for what ``waiting`` tells.

        There is no deadline by default: an outage takes what it takes.
        """
        await self._place.call("getting ready", timeout, self._actor.topology_calls.wait_ready)
