"""The topology: what was declared over one connection, and the actor that makes it so.

``Topology`` is the desired state.  It belongs to the connection, above every session, and
only this file changes it.  ``TopologyActor`` replays it in each new session (exchanges, then
queues, then bindings) and performs declarations on a scratch channel of its own, so that a
404 or 406 answered to one of them takes no consumer's channel with it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import trio
from amqp import exceptions as amqp_errors

from .._model import BindingKind, BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from ..supervisors import ActorContext
from ..transport._link import Link, LinkChannel
from ._waiting import farewell

logger = logging.getLogger("kombu_actors.topology")

PARKED_LIMIT = 256
"""Entities whose replay failed, kept for the snapshot; more than anyone will read."""


class Topology:
    """Desired exchanges, queues and bindings of one connection.

    Queues are filed under the name their first declaration had; a queue that the broker named
    gets a new name in each session, and ``current_name`` follows it.
    """

    def __init__(self) -> None:
        self.exchanges: dict[str, ExchangeSpec] = {}
        self.queues: dict[str, QueueSpec] = {}
        self.bindings: dict[BindingSpec, None] = {}
        self._renamed: dict[str, str] = {}

    @property
    def has_renamed(self) -> bool:
        """Whether any queue has another name now than its callers know."""
        return bool(self._renamed)

    def current_name(self, queue: str) -> str:
        """The name by which the broker knows this queue in the present session."""
        return self._renamed.get(queue, queue)

    def exchange_declared(self, spec: ExchangeSpec) -> None:
        """Wish for it from now on."""
        self.exchanges[spec.name] = spec

    def exchange_deleted(self, name: str) -> None:
        """Forget it, and the bindings from and to it."""
        self.exchanges.pop(name, None)
        self._drop_bindings(lambda b: b.source == name or (b.kind is BindingKind.EXCHANGE and b.destination == name))

    def queue_declared(self, spec: QueueSpec, name: str) -> None:
        """``name`` is what the broker answered; for a replayed server-named queue ``spec.name`` is its known name."""
        self.queues[name] = spec

    def queue_renamed(self, known: str, current: str) -> None:
        """In this session the broker calls it ``current``; its callers go on with the name they know."""
        self._renamed[known] = current

    def queue_deleted(self, name: str) -> None:
        """Forget it, and the bindings to it."""
        self.queues.pop(name, None)
        self._renamed.pop(name, None)
        self._drop_bindings(lambda b: b.kind is BindingKind.QUEUE and b.destination == name)

    def bound(self, binding: BindingSpec) -> None:
        """Wish for it from now on."""
        self.bindings[binding] = None

    def unbound(self, binding: BindingSpec) -> None:
        """Forget it."""
        self.bindings.pop(binding, None)

    def bindings_of(self, queue: str) -> list[BindingSpec]:
        """Bindings that lead to a queue."""
        return [b for b in self.bindings if b.kind is BindingKind.QUEUE and b.destination == queue]

    def in_session(self, binding: BindingSpec) -> BindingSpec:
        """The binding with the name its queue has in the present session."""
        if binding.kind is BindingKind.QUEUE and binding.destination in self._renamed:
            return attrs.evolve(binding, destination=self._renamed[binding.destination])
        return binding

    def _drop_bindings(self, condition: Callable[[BindingSpec], bool]) -> None:
        for binding in [b for b in self.bindings if condition(b)]:
            del self.bindings[binding]


@attrs.frozen(kw_only=True)
class Parked:
    """An entity that could not be restored, and why; tried again in the next session."""

    entity: str
    error: str


@attrs.frozen
class Request:
    """One operation for the topology actor, performed on its scratch channel."""

    perform: Callable[[TopologyActor, LinkChannel], Awaitable[Any]]


class TopologyActor:
    """Holds the desired topology true; the only user of its scratch channel."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.parked: list[Parked] = []
        self._link: Link | None = None
        self._scratch: LinkChannel | None = None

    async def serve(self, ctx: ActorContext, link: Link) -> None:
        """Replay, say ready, then perform requests one by one until told to stop."""
        self._link = link
        self._scratch = None
        try:
            await self._replay()
            ctx.ready()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._perform_requests, ctx)
                await ctx.stopping.wait()
                nursery.cancel_scope.cancel()
            await self._close_scratch()
        finally:
            self._link = self._scratch = None

    async def _perform_requests(self, ctx: ActorContext) -> None:
        async for envelope in ctx.mailbox:
            request: Request = envelope.message
            try:
                result = await request.perform(self, await self.scratch())
            except Exception as error:  # what a request fails of concerns its caller only
                if self._link is not None and self._link.closed is not None:
                    raise
                envelope.fail(error)
            else:
                envelope.reply(result)

    async def _close_scratch(self) -> None:
        if self._scratch is not None and self._link is not None:
            with farewell(self._link):
                await self._scratch.aclose()

    async def scratch(self) -> LinkChannel:
        """The scratch channel, opened anew when an answer closed it."""
        assert self._link is not None
        if self._scratch is None or self._scratch.closed is not None:
            self._scratch = await self._link.open_channel()
        return self._scratch

    async def _replay(self) -> None:
        """Restore everything; an entity the broker refuses is parked, and the rest goes on."""
        self.parked.clear()
        topology = self.topology
        for exchange in list(topology.exchanges.values()):
            await self._restore(f"exchange {exchange.name!r}", partial(_declare_exchange, exchange))
        for name in list(topology.queues):
            await self._restore(f"queue {name!r}", partial(self.restore_queue, name))
        for binding in list(topology.bindings):
            await self._restore(f"binding {binding.source!r} -> {binding.destination!r}", partial(self._bind, binding))

    async def _restore(self, entity: str, act: Callable[[LinkChannel], Awaitable[Any]]) -> None:
        delay = 0.1
        while True:
            try:
                await act(await self.scratch())
            except amqp_errors.ResourceLocked:
                # An exclusive queue stays locked until the broker has noticed that our last
                # connection is gone; only this entity waits for it.
                await trio.sleep(delay)
                delay = min(delay * 2, 2.0)
                if delay == 2.0:
                    self._park(entity, "still locked by the previous connection (405)")
                    return
            except amqp_errors.ChannelError as error:
                self._park(entity, str(error))
                return
            else:
                return

    def _park(self, entity: str, error: str) -> None:
        logger.error("%s could not be restored: %s; it is tried again in the next session", entity, error)
        if len(self.parked) < PARKED_LIMIT:
            self.parked.append(Parked(entity=entity, error=error))

    async def restore_queue(self, name: str, channel: LinkChannel) -> QueueInfo:
        """Declare a known queue again; follow its name when the broker chooses it."""
        spec = self.topology.queues[name]
        info = await channel.queue_declare(spec)
        if info.name != name:
            self.topology.queue_renamed(name, info.name)
        return info

    async def _bind(self, binding: BindingSpec, channel: LinkChannel) -> None:
        binding = self.topology.in_session(binding)
        if binding.kind is BindingKind.QUEUE:
            await channel.queue_bind(binding)
        else:
            await channel.exchange_bind(binding)

    # What callers may ask for.  Each returns a coroutine function of the scratch channel.

    async def declare_exchange(self, channel: LinkChannel, spec: ExchangeSpec, passive: bool) -> None:
        """Declare it and, unless passively, remember it once the broker has said yes."""
        await channel.exchange_declare(spec, passive=passive)
        if not passive:
            self.topology.exchange_declared(spec)

    async def delete_exchange(self, channel: LinkChannel, name: str, if_unused: bool) -> None:
        """Delete it, then forget it."""
        await channel.exchange_delete(name, if_unused=if_unused)
        self.topology.exchange_deleted(name)

    async def declare_queue(self, channel: LinkChannel, spec: QueueSpec, passive: bool) -> QueueInfo:
        """Declare it under its present name and, unless passively, remember it; answers with the known name."""
        known = spec.name
        info = await channel.queue_declare(attrs.evolve(spec, name=self.topology.current_name(known)), passive=passive)
        if known:
            info = info._replace(name=known)
        if not passive and not (known and self.topology.current_name(known) != known):
            self.topology.queue_declared(spec, info.name)
        return info

    async def delete_queue(self, channel: LinkChannel, name: str, if_unused: bool, if_empty: bool) -> int:
        """Delete it, then forget it; returns how many messages went with it."""
        count = await channel.queue_delete(self.topology.current_name(name), if_unused=if_unused, if_empty=if_empty)
        self.topology.queue_deleted(name)
        return count

    async def bind(self, channel: LinkChannel, binding: BindingSpec) -> None:
        """Make a binding, then remember it."""
        await self._bind(binding, channel)
        self.topology.bound(binding)

    async def unbind(self, channel: LinkChannel, binding: BindingSpec) -> None:
        """Remove a binding, then forget it."""
        present = self.topology.in_session(binding)
        if binding.kind is BindingKind.QUEUE:
            await channel.queue_unbind(present)
        else:
            await channel.exchange_unbind(present)
        self.topology.unbound(binding)

    async def purge_queue(self, channel: LinkChannel, name: str) -> int:
        """Remove its ready messages; returns how many there were."""
        return await channel.queue_purge(self.topology.current_name(name))

    async def restore(self, channel: LinkChannel, queue: str) -> None:
        """Declare a queue and its bindings again after the broker took it away; unknown queues are left alone."""
        if queue not in self.topology.queues:
            return
        await self.restore_queue(queue, channel)
        for binding in self.topology.bindings_of(queue):
            await self._bind(binding, channel)


async def _declare_exchange(exchange: ExchangeSpec, channel: LinkChannel) -> None:
    await channel.exchange_declare(exchange)
