"""The topology actor: performs its callers' declarations, and has the desired topology restored.

It does one thing at a time: what a caller deletes can't be restored by a retry under way.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

import trio
from amqp import exceptions as amqp_errors

from .._frozen import Record
from .._values.model import BindingKind, BindingSpec, Declaration, ExchangeSpec, QueueInfo, QueueSpec
from ..errors import ConnectionClosed, ConnectionLost
from ..supervisors import ActorContext, Envelope
from ..supervisors._interrupts import protected
from ._waiting import Farewells
from .calls import verdict
from .restoring import Restorer
from .sharing import Neighbour
from .together import MANY, Wish, grouped, make_together
from .topology import Entity, Named, Topology
from .waitlist import Waitlist

if TYPE_CHECKING:
    from ..transport._contract import Link


class Request(Record):
    """One operation for the topology actor."""

    perform: Callable[[TopologyActor], Awaitable[object]]


@protected
class TopologyActor:
    """Holds the desired topology true."""

    def __init__(self, topology: Topology, dice: Random) -> None:
        self.topology = topology
        self.waiting: Waitlist[Entity] = Waitlist()
        self.neighbour = Neighbour(topology)
        self._dice = dice
        self._present: Restorer | None = None
        self._one_by_one = False
        """Whether the last session ended over what was restored in it."""
        self._declare_one_by_one = False
        """Whether a session ended over what callers had declared together."""

    async def serve(self, ctx: ActorContext, link: Link, farewells: Farewells) -> None:
        """Restore everything, say ready, then work until told to stop."""
        self.waiting.restart(trio.current_time())
        restorer = self._present = Restorer(self.topology, self._dice, ctx, link, self.waiting)
        try:
            await self._restore(restorer)
            for queue in list(self.topology.unended):
                await self.end_unused(queue)
            restorer.tell_how_it_stands()
            with ctx.until_stopping():
                await self._work(ctx, link)
            with farewells.say(ctx):
                await restorer.aclose()
        finally:
            self._present = None

    async def _restore(self, restorer: Restorer) -> None:
        try:
            await restorer.restore_all(together=not self._one_by_one)
        except ConnectionLost as lost:
            # Over one of several that were under way, maybe: the next session tells which.
            self._one_by_one = isinstance(lost.__cause__, amqp_errors.IrrecoverableConnectionError)
            raise
        self._one_by_one = False

    @property
    def _restorer(self) -> Restorer:
        if self._present is None:
            raise ConnectionClosed("the topology is not served at this moment")
        return self._present

    async def _work(self, ctx: ActorContext, link: Link) -> None:
        while True:
            envelope = await self._next_request(ctx)
            if envelope is not None:
                await self._perform(envelope, link)
            entity = self.waiting.first_due(trio.current_time())
            if entity is not None:
                await self._restorer.attempt(entity)
            self._restorer.tell_how_it_stands()

    async def _next_request(self, ctx: ActorContext) -> Envelope | None:
        """The next one, unless something is due before."""
        due = self.waiting.next_at()
        if due == math.inf:
            return await ctx.mailbox.receive()
        with trio.move_on_at(due):
            return await ctx.mailbox.receive()
        return None

    async def _perform(self, envelope: Envelope, link: Link) -> None:
        request: Request = envelope.message
        try:
            result = await request.perform(self)
        except ConnectionLost as lost:
            answer = verdict(lost)
            if answer is not None:  # repeating it would cost everybody the next session, too
                envelope.fail(answer)
            raise
        except Exception as error:  # what a request fails of concerns its caller only
            if link.closed is not None:
                raise
            envelope.fail(error)
        else:
            envelope.reply(result)

    # What consumers ask for

    def doubt(self, queue: str) -> None:
        """A queue may have gone: its consumer has."""
        if self._present is not None:
            self._present.doubt(queue)

    def is_doubtful(self, queue: str) -> bool:
        """Whether a queue is wished for, and may not be there."""
        return self._present is not None and self._present.is_doubtful(queue)

    def is_made(self, queue: str) -> bool:
        """Whether a queue that was declared over this connection is there, as far as is known."""
        return self._present is not None and self._present.is_made(queue)

    async def prepare_to_consume(self, queue: str, exclusive: bool) -> None:
        """Have a queue there before it is consumed from; see ``Restorer.prepare_to_consume``."""
        await self._restorer.prepare_to_consume(queue, exclusive)

    # What callers ask for

    async def declare_exchange(self, spec: ExchangeSpec, passive: bool) -> None:
        """Declare it and, unless passively, remember it once the broker has said yes."""
        await (await self._restorer.channel()).exchange_declare(spec, passive=passive)
        if not passive:
            self.topology.exchange_declared(spec)
            self._restorer.settled(Named("exchange", spec.name))

    async def delete_exchange(self, name: str, if_unused: bool) -> None:
        """Delete it, then forget it."""
        await (await self._restorer.channel()).exchange_delete(name, if_unused=if_unused)
        self.topology.exchange_deleted(name)
        for other in self.neighbour.others():
            other.deleted_elsewhere(Named("exchange", name))
        self._restorer.forget_unwished()

    async def declare_queue(self, spec: QueueSpec, passive: bool) -> QueueInfo:
        """Declare it under its present name and, unless passively, remember it; answers with the present name."""
        known = self.topology.names.known(spec.name)
        if passive:
            return await self._restorer.look(spec.name)
        if self._is_named_by_broker(known):
            await self._restorer.restore_queue(known)  # which declares no such name
            return await self._restorer.look(known)
        info = await (await self._restorer.channel()).queue_declare(spec)
        self._declared(spec, info)
        return info

    def _is_named_by_broker(self, known: str) -> bool:
        return known in self.topology.queues and not self.topology.queues[known].name

    def _declared(self, spec: QueueSpec, info: QueueInfo) -> None:
        is_new = info.name not in self.topology.queues  # else its bindings of before may be gone
        self.topology.queue_declared(spec, info.name)
        if is_new:
            self._restorer.made(info.name)
        self._restorer.settled(Named("queue", info.name))

    async def declare_all(self, entities: Sequence[Declaration]) -> QueueInfo | None:
        """Declare entities in their order, many queues that follow one another together; answers with the last queue's.

        What is refused is refused by itself: the first refusal is raised, and what follows may have been declared.
        """
        last: QueueInfo | None = None
        try:
            for entity in grouped(entities):
                if isinstance(entity, dict):
                    last = await self._declare_queues(entity)
                elif isinstance(entity, ExchangeSpec):
                    await self.declare_exchange(entity, False)
                elif isinstance(entity, QueueSpec):
                    last = await self.declare_queue(entity, False)
                else:
                    await self.bind(entity)
        except ConnectionLost as lost:
            self._declare_one_by_one = isinstance(lost.__cause__, amqp_errors.IrrecoverableConnectionError)
            raise
        self._declare_one_by_one = False
        return last

    async def _declare_queues(self, wishes: Mapping[str, Wish]) -> QueueInfo | None:
        """Declare queues with their bindings; answers with the last one's."""
        made: dict[str, QueueInfo] = {}
        if len(wishes) >= MANY and not self._declare_one_by_one:
            names = self.topology.names
            ours = {name: wish for name, wish in wishes.items() if not self._is_named_by_broker(names.known(name))}
            made = await make_together(await self._restorer.channel(), ours)
        for name, info in made.items():
            self._declared(wishes[name].queue, info)
            for binding in wishes[name].bindings:
                self._bound(binding)
        last: QueueInfo | None = None
        for name, wish in wishes.items():
            last = made.get(name)
            if last is None:
                last = await self.declare_queue(wish.queue, False)
                for binding in wish.bindings:
                    await self.bind(binding)
        return last

    async def delete_queue(self, name: str, if_unused: bool, if_empty: bool) -> int:
        """Delete it, then forget it; returns how many messages went with it."""
        current = self.topology.names.current(name)
        count = await (await self._restorer.channel()).queue_delete(current, if_unused=if_unused, if_empty=if_empty)
        self.topology.queue_deleted(name)
        for other in self.neighbour.others():
            other.deleted_elsewhere(Named("queue", name))
        self._restorer.forget_unwished()
        return count

    async def end_unused(self, queue: str) -> None:
        """Delete a queue that should have gone with its last consumer, unless somebody consumes from it."""
        if self.topology.is_dormant(queue):
            await self._restorer.end_unused(queue)
        self.topology.unended.discard(queue)

    async def restore_queue(self, queue: str) -> None:
        """Have a queue there that may have gone; what the broker refuses waits, as in any restoration."""
        await self._restorer.attempt(Named("queue", self.topology.names.known(queue)))

    async def bind(self, binding: BindingSpec) -> None:
        """Make a binding, then remember it, as do those who restore what it leads to."""
        await self._restorer.bind(binding)
        self._bound(binding)

    def _bound(self, binding: BindingSpec) -> None:
        self.topology.bound(binding)
        for other in self.neighbour.others():
            other.bound_elsewhere(binding)
        self._restorer.settled(binding)

    async def unbind(self, binding: BindingSpec) -> None:
        """Remove a binding, then forget it, as does everybody else."""
        present = self.topology.in_session(binding)
        if binding.kind is BindingKind.QUEUE:
            await (await self._restorer.channel()).queue_unbind(present)
        else:
            await (await self._restorer.channel()).exchange_unbind(present)
        self.topology.unbound(binding)
        for other in self.neighbour.others():
            other.unbound(binding)
        self._restorer.forget_unwished()

    async def purge_queue(self, name: str) -> int:
        """Remove its ready messages; returns how many there were."""
        return await (await self._restorer.channel()).queue_purge(self.topology.names.current(name))
