"""What restores the topology in each new session, and keeps it so.

Each entity that the broker refuses to restore just now is tried again with its own delays; everything
else goes on.  All on a scratch channel of its own, so that a 404 or 406 answered to one of them takes no
consumer's channel with it.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio
from amqp import exceptions as amqp_errors

from .._logs import get_logger
from .._values.model import BindingKind, BindingSpec, QueueInfo, QueueSpec
from ..supervisors import ActorContext, Event
from .calls import verdict
from .together import MANY, make_together
from .topology import Entity, Named, Topology, describe
from .waitlist import Waiting, Waitlist

if TYPE_CHECKING:
    from ..transport._contract import Link, LinkChannel

logger = get_logger("kombu_actors.topology")

NAMED_IN_DEGRADED = 8
"""Entities that the snapshot names of those that wait; more than that nobody reads."""


class RestorationWaiting(Event):
    """The broker refused to restore something; it is tried again at ``next_at``, everything else goes on."""

    entity: str
    reason: str
    attempts: int
    next_at: float
    """Monotonic seconds; infinite when trying it again would end the session for everybody."""


class RestorationSucceeded(Event):
    """What had waited is there, or is wished for no more."""

    entity: str
    downtime: float


class QueueRenamed(Event):
    """The broker gave a queue that it names another name; ``known`` is the name its declaration had."""

    known: str
    current: str


class Restorer:
    """Makes what is wished for so, one thing at a time; the only user of its scratch channel."""

    def __init__(
        self, topology: Topology, dice: Random, ctx: ActorContext, link: Link, waiting: Waitlist[Entity]
    ) -> None:
        self.topology = topology
        self.waiting = waiting
        self._dice = dice
        self._ctx = ctx
        self._link = link
        self._scratch: LinkChannel | None = None
        self._made: set[str] = set()
        """Known names of the queues that are there in this session, with our bindings, and not doubted since."""
        self._named: set[str] = set()
        """Known names of the queues that have their current name from this session."""
        self._told: str | None = None

    async def channel(self) -> LinkChannel:
        """The scratch channel, opened anew when an answer closed it."""
        if self._scratch is None or self._scratch.closed is not None:
            self._scratch = await self._link.open_channel(kept=True)
        return self._scratch

    async def aclose(self) -> None:
        """Close the scratch channel."""
        if self._scratch is not None:
            await self._scratch.aclose()

    async def restore_all(self, *, together: bool) -> None:
        """Restore what is wished for, in its order; ``together`` sends the declarations of many queues ahead."""
        made: set[str] = set()
        for entity in list(self.topology.entities()):
            if isinstance(entity, Named) and entity.kind == "queue":
                if together:
                    together, made = False, await self._queues_together()
                if entity.name in made:
                    continue
            await self.attempt(entity)

    async def _queues_together(self) -> set[str]:
        """Restore those queues that wait for nothing; returns the known names of the ones that are there."""
        wishes = self.topology.plain_queues(self.waiting)
        if len(wishes) < MANY:
            return set()
        made = await make_together(await self.channel(), wishes)
        self._made.update(made)
        return set(made)

    async def attempt(self, entity: Entity) -> None:
        """Restore one entity; what the broker refuses waits, and the rest goes on."""
        if self.waiting.is_barred(entity):
            return
        if not self.topology.wishes_for(entity):
            self.settled(entity)
            return
        try:
            await self._restore(entity)
        except (amqp_errors.ChannelError, ValueError) as refusal:
            self._refused(entity, refusal)
        except amqp_errors.ConnectionError as error:
            answer = verdict(error)
            if answer is not None:
                now = trio.current_time()
                self._report_waiting(self.waiting.barred(entity, describe(entity), str(answer), now))
            if answer is not error:
                raise

    async def _restore(self, entity: Entity) -> None:
        if isinstance(entity, Named) and entity.kind == "queue":
            await self.restore_queue(entity.name)
            return
        if isinstance(entity, BindingSpec):
            await self._bind_again(entity)
        else:
            await (await self.channel()).exchange_declare(self.topology.exchanges[entity.name])
        self.settled(entity)

    async def restore_queue(self, known: str) -> None:
        """Declare a known queue and its bindings; what is there and can't be declared serves as it is.

        Raises the broker's refusal; then the queue itself waits, or isn't there.
        """
        entity = Named("queue", known)
        try:
            await (self.look if self.waiting.is_barred(entity) else self._declare_again)(known)
        except (amqp_errors.PreconditionFailed, amqp_errors.AccessRefused) as refusal:
            try:
                await self.look(known)
            except amqp_errors.ChannelError:
                raise refusal from None
            self._refused(entity, refusal)
        else:
            if not self.waiting.is_barred(entity):
                self.settled(entity)
        await self._bind_all_again(known)

    async def _bind_all_again(self, known: str) -> None:
        if known not in self._made:
            for binding in self.topology.bindings_to(BindingKind.QUEUE, known):
                await self.attempt(binding)
            self._made.add(known)

    async def _declare_again(self, known: str) -> object:
        spec, names = self.topology.queues[known], self.topology.names
        if spec.name:
            return await (await self.channel()).queue_declare(spec)
        if known in self._named or not spec.exclusive:  # it may be there still, and can't be declared by its name
            try:
                return await self.look(known)
            except amqp_errors.NotFound:
                logger.debug("queue %r is gone: the broker names another one", names.current(known))
        info = await (await self.channel()).queue_declare(spec)
        self._named.add(known)
        names.renamed(known, info.name)
        self._ctx.report(QueueRenamed, known=known, current=info.name)
        return info

    async def look(self, name: str) -> QueueInfo:
        """Ask how a queue stands; raises ``NotFound`` when there is none, ``ResourceLocked`` when it isn't ours."""
        spec = QueueSpec(name=self.topology.names.current(name))
        return await (await self.channel()).queue_declare(spec, passive=True)

    async def _bind_again(self, binding: BindingSpec) -> None:
        """Make a binding, with its exchanges where they went with what was bound to them."""
        try:
            await self.bind(binding)
        except amqp_errors.NotFound:
            ends = [binding.source, *([binding.destination] if binding.kind is BindingKind.EXCHANGE else [])]
            if not [name for name in ends if await self._exchange_again(name, set())]:
                raise
            await self.bind(binding)

    async def _exchange_again(self, name: str, asked: set[str]) -> bool:
        """Declare a known exchange and what feeds it; False when it isn't known."""
        spec = self.topology.exchanges.get(name)
        if spec is None or name in asked:
            return False
        asked.add(name)
        await (await self.channel()).exchange_declare(spec)
        for binding in self.topology.bindings_to(BindingKind.EXCHANGE, name):
            await self._exchange_again(binding.source, asked)
            await self.bind(binding)
        return True

    async def bind(self, binding: BindingSpec) -> None:
        """Make a binding, to the queue by its present name."""
        binding = self.topology.in_session(binding)
        if binding.kind is BindingKind.QUEUE:
            await (await self.channel()).queue_bind(binding)
        else:
            await (await self.channel()).exchange_bind(binding)

    def _refused(self, entity: Entity, refusal: BaseException) -> None:
        now, u = trio.current_time(), self._dice.random()
        self._report_waiting(self.waiting.refused(entity, describe(entity), str(refusal), now, u))

    def _report_waiting(self, waiting: Waiting) -> None:
        if waiting.loudness is not None:
            how = "it is tried again until it succeeds" if waiting.next_at < float("inf") else "it is not tried again"
            logger.log(waiting.loudness, "%s can't be restored: %s; %s", waiting.what, waiting.reason, how)
        self._ctx.report(
            RestorationWaiting,
            entity=waiting.what,
            reason=waiting.reason,
            attempts=waiting.attempts,
            next_at=waiting.next_at,
        )

    def settled(self, entity: Entity) -> None:
        """It is there, or wished for no more."""
        waited = self.waiting.settled(entity)
        if waited is None:
            return
        downtime = trio.current_time() - waited.since
        logger.info("%s waits no more, after %.1f s", waited.what, downtime)
        self._ctx.report(RestorationSucceeded, entity=waited.what, downtime=downtime)

    # What consumers ask for

    def made(self, known: str) -> None:
        """A caller has declared a queue for the first time; bindings are what it does next."""
        self._made.add(known)
        if not self.topology.queues[known].name:
            self._named.add(known)

    def is_made(self, queue: str) -> bool:
        """Whether a queue was declared in this session, with its bindings, and nobody has doubted it since."""
        return self.topology.names.known(queue) in self._made

    def doubt(self, queue: str) -> None:
        """A queue may have gone: its consumer has."""
        self._made.discard(self.topology.names.known(queue))

    def is_doubtful(self, queue: str) -> bool:
        """Whether a queue is wished for, and may not be there."""
        known = self.topology.names.known(queue)
        return not self.is_made(queue) and self.topology.wishes_for(Named("queue", known))

    async def prepare_to_consume(self, queue: str, exclusive: bool) -> None:
        """Have a queue there, with its bindings, before it is consumed from: else the consumer costs its channel.

        A queue that wasn't declared over this connection is only looked for; what we bound to it is ours.

        Raises:
            NotFound, ResourceLocked, AccessRefused, ...: why it can't be consumed from just now.
        """
        known = self.topology.names.known(queue)
        if known not in self.topology.queues:
            info = await self.look(queue)
            await self._bind_all_again(known)
        else:
            if known not in self._made:
                try:
                    await self.restore_queue(known)
                except (amqp_errors.ChannelError, ValueError) as refusal:
                    self._refused(Named("queue", known), refusal)
                    raise
            if not exclusive:
                return
            info = await self.look(queue)
        if exclusive and info.consumers:
            raise amqp_errors.AccessRefused(
                f"queue {queue!r} has {info.consumers} consumer(s), and is to be consumed from exclusively",
                reply_code=403,
            )

    async def end_unused(self, queue: str) -> None:
        """Delete a queue that nobody consumes from; one that is gone, or is used, is as it should be."""
        try:
            await (await self.channel()).queue_delete(self.topology.names.current(queue), if_unused=True)
        except amqp_errors.ChannelError as refusal:
            logger.debug("queue %r is not deleted: %r", queue, refusal)
        self.doubt(queue)

    # How it stands

    def forget_unwished(self) -> None:
        """What was deleted waits no more."""
        for entity in self.waiting.identities():
            if not self.topology.wishes_for(entity):
                self.settled(entity)

    def tell_how_it_stands(self) -> None:
        """READY; and degraded, with what waits and why, while something does."""
        waiting = list(self.waiting)
        named = "; ".join(f"{each.what}: {each.reason}" for each in waiting[:NAMED_IN_DEGRADED])
        more = f"; and {len(waiting) - NAMED_IN_DEGRADED} more" if len(waiting) > NAMED_IN_DEGRADED else ""
        if (state := named + more) == self._told:
            return
        self._told = state
        self._ctx.ready()
        if state:
            self._ctx.degraded(f"not restored yet: {state}")
