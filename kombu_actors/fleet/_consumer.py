"""One consumer: an actor that works in shifts, each with a subscription of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence

import attrs
import trio

from .._logs import get_logger
from ..broker import Broker, QueueSpec
from ..errors import KombuError, NotFound
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected
from ..supervisors.events import Event
from . import events
from ._batch_crew import BatchCrew
from ._custody import Custody
from ._cut import Cut
from ._delays import delay_of
from ._gate import Gate
from ._handling import Handling
from ._lane_crew import LaneCrew
from ._letters import dead_letter_queue
from ._liveness import Sight, Watch
from ._measures import CallMeasures
from ._outgoing import Outgoing, consuming_broker, outgoing_of
from ._plans import ConsumerPlan, Middleware
from ._resources import Lease, Resources
from ._settling import Settling
from ._slots import Crew, Tools
from ._tally import Tally
from ._threads import Running, Threads
from ._tracing import TracedOutlet, Tracing

logger = get_logger("kombu_actors.fleet")

STOP_TIMEOUT = 5.0
"""Seconds for the broker's answer that it sends nothing more; without it, what still comes goes back all the same."""


@attrs.frozen(eq=False)
class Surroundings:
    """What the consumers of one run share."""

    resources: Resources
    middleware: Sequence[Middleware]
    cut: Cut
    custody: Custody | None
    """In a worker process: what notes the messages in hand."""
    tracing: Tracing | None


@protected
class FleetConsumer:
    """Owns the tally of one consumer, whether it is paused, and its present shift; all of which outlive restarts.

    A shift ends when the consumer is stopped or paused, or when a resource goes down that its handlers depend on.
    """

    def __init__(self, plan: ConsumerPlan, id: str, surroundings: Surroundings) -> None:
        self.plan = plan
        self.id = id
        self.tally = Tally()
        self.measures = CallMeasures(time.time() - time.perf_counter())
        self.gate = Gate(plan.fail_fast)
        self.threads = Threads(plan.concurrency, self._report_stuck)
        self.paused = False
        self.cancelled = False
        """Whether it was cancelled before its handlers were done."""
        self.crew: Crew | None = None
        """None between shifts."""
        self.watch: Watch | None = None
        """What is known of whether it has gone deaf; ``Listening`` watches."""
        self._shifts = 0
        self._surroundings = surroundings
        self._ctx: ActorContext | None = None
        self._over = trio.Event()
        """Set: the shift is to end, or whoever rests is to look again."""
        self._taking = False
        """Whether the broker may send messages."""
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self, ctx: ActorContext) -> None:
        """The actor."""
        self._ctx = ctx
        consuming, outgoing = consuming_broker(ctx), outgoing_of(ctx)
        await self._declare(consuming, outgoing)
        settling = Settling(self.plan, self.tally, outgoing, self._surroundings.cut, self._surroundings.tracing)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_stop, ctx)
                while not ctx.stopping.is_set():
                    self._over = trio.Event()
                    if self.paused:
                        ctx.ready()
                        ctx.degraded("paused")
                        await self._over.wait()
                    else:
                        await self._shift(ctx, consuming, outgoing, settling)
                nursery.cancel_scope.cancel(reason="the consumer has stopped")
        except BaseException as error:
            self.cancelled = not isinstance(error, Exception)
            raise

    async def pause(self) -> None:
        """Take no more messages; returns when the broker sends none and what no handler has begun is back."""
        if not self.paused:
            self.paused = True
            self._over.set()
            self._tell(events.ConsumerPaused)
        while self.paused and self._taking:
            await self._changed.park()

    def resume(self) -> None:
        """Go on, as soon as the handlers that were at work when it was paused are done."""
        if self.paused:
            self.paused = False
            self._over.set()
            self._tell(events.ConsumerResumed)

    def sight(self) -> Sight:
        """How it stands, for who watches whether it hears."""
        crew = self.crew
        if crew is None:
            return Sight((0, 0), 0, open=False)
        subscription = crew.tools.subscription
        room = self.plan.prefetch - self.tally.in_hand - subscription.buffered
        rests = self._over.is_set() or self.gate.narrow
        return Sight(
            (self._shifts, subscription.grants),
            subscription.arrived,
            open=room > 0 and not rests and subscription.expecting,
        )

    def deaf(self, why: str, **details: object) -> None:
        """Say that it gets nothing; ``details`` are the event's."""
        self._tell(events.ConsumerDeaf, **details)
        if self._ctx is not None:
            self._ctx.degraded(why)

    def hears(self, **details: object) -> None:
        """Say that it does again."""
        self._tell(events.ConsumerHears, **details)
        if self._ctx is not None and not self.paused:
            self._ctx.ready()

    # -- a shift ------------------------------------------------------------------------------

    async def _shift(self, ctx: ActorContext, consuming: Broker, outgoing: Outgoing, settling: Settling) -> None:
        plan, surroundings = self.plan, self._surroundings
        leases: list[Lease] = []
        with ctx.until_stopping():
            leases = await surroundings.resources.lease(ctx, plan.handler.resources)
        if ctx.stopping.is_set() or self.paused:
            return
        settling.begin(ctx)
        values = [lease.value for lease in leases]
        handling = Handling(plan, values, surroundings.middleware, self.threads, surroundings.tracing)
        tracing = surroundings.tracing
        outlet = outgoing.publisher if tracing is None else TracedOutlet(outgoing.publisher, tracing)
        self._taking = True
        try:
            async with consuming.subscribe(plan.name, prefetch=plan.prefetch, accept=plan.accept) as subscription:
                tools = Tools(
                    handling=handling,
                    settling=settling,
                    subscription=subscription,
                    gate=self.gate,
                    threads=self.threads,
                    outlet=outlet,
                    custody=surroundings.custody,
                    measures=self.measures,
                )
                ctx.ready()
                await self._work(self._crew(tools), leases)
        finally:
            self._stopped_taking()

    async def _work(self, crew: Crew, leases: Sequence[Lease]) -> None:
        subscription = crew.tools.subscription
        self._shifts += 1
        self.crew = crew
        try:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as handlers, self._surroundings.cut.cancelled_by_it(handlers):
                    nursery.start_soon(self._wind_down, crew)
                    for lease in leases:
                        nursery.start_soon(self._follow, lease, handlers)
                    await crew.run()
                nursery.cancel_scope.cancel(reason="the shift is over")
        finally:
            self.crew = None
            self.tally.received += subscription.given_back
            self.tally.returned += subscription.given_back

    def _crew(self, tools: Tools) -> Crew:
        if self.plan.batch is not None:
            return BatchCrew(tools)
        if self.plan.key is not None:
            return LaneCrew(tools, self.plan.key)
        return Crew(tools)

    async def _wind_down(self, crew: Crew) -> None:
        """At the end of the shift: take nothing more, give back what no handler has begun."""
        await self._over.wait()
        crew.tools.settling.draining.set()
        try:
            # First, or what goes back would be delivered here again.
            await crew.tools.subscription.stop(drain=False, timeout=STOP_TIMEOUT)
        except KombuError as error:
            logger.info("queue %r: its subscription ends without the broker's word: %s", self.plan.name, error)
        crew.wake()
        self._stopped_taking()

    def _stopped_taking(self) -> None:
        self._taking = False
        self._changed.unpark_all()

    async def _wait_stop(self, ctx: ActorContext) -> None:
        await ctx.stopping.wait()
        self._over.set()

    async def _follow(self, lease: Lease, handlers: trio.CancelScope) -> None:
        await lease.wait_down()
        logger.warning(
            "resource %r went down: the handlers of queue %r, which depend on it, are cancelled; messages go back",
            *(lease.name, self.plan.name),
        )
        handlers.cancel(reason=f"resource {lease.name!r} went down")
        self._over.set()

    # -- the rest -------------------------------------------------------------------------------

    async def _declare(self, consuming: Broker, outgoing: Outgoing) -> None:
        """The queue, as the program gave it; what it only named, where there is none; the delays of its policy."""
        dead = self.plan.dead_letter
        if self.plan.declare:
            await consuming.declare(self.plan.queue)
        else:
            await _ensure(consuming, QueueSpec(name=self.plan.name))
        try:
            await _ensure(outgoing.broker, dead_letter_queue(dead))
        except NotFound as away:
            # In a cluster: it is there, on a node that is down.  What dies before that is back returns to its queue.
            logger.warning("queue %r, for dead letters, is away, and messages are handled: %s", dead, away)
        for seconds in self.plan.retry.delays:
            await outgoing.postponer.declare(delay_of(seconds))

    def _report_stuck(self, running: Running) -> None:
        stack = running.stack()
        logger.error(
            "handler %s of message %s (queue %r) was cancelled and is STUCK in its thread, %.1f s after it began:\n%s",
            *(self.plan.handler.name, running.message_id, self.plan.name, trio.current_time() - running.since),
            "".join(stack),
        )
        self._tell(events.HandlerStuck, message_id=running.message_id, stack=stack)

    def _tell(self, kind: type[Event], **details: object) -> None:
        if self._ctx is not None:
            self._ctx.report(kind, queue=self.plan.name, **details)


async def _ensure(broker: Broker, queue: QueueSpec) -> None:
    try:
        await broker.inspect_queue(queue.name)
    except NotFound:
        await broker.declare(queue)
