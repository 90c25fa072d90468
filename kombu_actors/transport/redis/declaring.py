"""What a Redis channel has before it carries messages: requests with their answers, and the topology."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio
from amqp import exceptions as amqp_errors

from ..._values.model import BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from ...protocols.redis import topology_calls as topology
from ...protocols.redis.calls import Call
from .._checks import check, check_binding
from .._waiting import OneLife

if TYPE_CHECKING:
    from .link import RedisLink

__all__ = ["DeclaringChannel"]

T = TypeVar("T")


class DeclaringChannel(OneLife):
    """A channel over which exchanges, queues and bindings are declared; a refusal ends it, as at RabbitMQ."""

    def __init__(self, link: RedisLink, number: int) -> None:
        super().__init__()
        self.number = number
        self.link = link

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} of {self.link.name}, {'open' if self.closed is None else 'dead'}>"

    def die(self, reason: BaseException) -> None:
        """End as the broker ends a channel over a mistake."""
        self._ending.happen(reason)

    async def _ask(self, call: Call[T], *, undo: Callable[[T], None] | None = None) -> T:
        self._ending.check()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return await self.link.call(call, undo=undo)
        except amqp_errors.AMQPError as refusal:
            self.die(refusal)
            raise

    async def exchange_declare(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        """Declare an exchange, or with ``passive`` check that it exists."""
        check({"exchange": spec.name, "type": spec.type}, spec.arguments)
        await self._ask(topology.exchange_declare(spec, passive=passive))

    async def exchange_delete(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange."""
        check({"exchange": name})
        await self._ask(topology.exchange_delete(name, if_unused=if_unused))

    async def exchange_bind(self, binding: BindingSpec) -> None:
        """Bind an exchange to an exchange."""
        await self.queue_bind(binding)

    async def exchange_unbind(self, binding: BindingSpec) -> None:
        """Undo ``exchange_bind``."""
        await self.queue_unbind(binding)

    async def queue_declare(self, spec: QueueSpec, *, passive: bool = False) -> QueueInfo:
        """Declare a queue, or with ``passive`` look at it; an empty name gets one that nobody has."""
        check({"queue": spec.name}, spec.arguments)
        fresh = not spec.name and not passive
        if fresh:
            spec = spec.but(name=f"amq.gen-{self.link.fresh()}")
        return await self._ask(topology.queue_declare(spec, passive=passive, fresh=fresh))

    async def queue_delete(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue; return how many messages went with it."""
        check({"queue": name})
        return await self._ask(topology.queue_delete(name, if_unused=if_unused, if_empty=if_empty))

    async def queue_bind(self, binding: BindingSpec) -> None:
        """Bind a queue to an exchange."""
        check_binding(binding)
        await self._ask(topology.bind(binding, durable=self.link.options.durable_fanout))

    async def queue_unbind(self, binding: BindingSpec) -> None:
        """Undo ``queue_bind``."""
        check_binding(binding)
        await self._ask(topology.unbind(binding))

    async def queue_purge(self, name: str) -> int:
        """Drop a queue's ready messages; return how many."""
        check({"queue": name})
        return await self._ask(topology.queue_purge(name))
