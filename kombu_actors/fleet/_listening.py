"""Watches that consumers hear what waits for them, and wakes those that don't; ``_liveness`` decides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import trio

from .._logs import get_logger
from ..broker import Broker, QueueInfo, Renewal
from ..errors import AccessRefused, KombuError, NotFound, ResourceLocked
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected
from ._consumer import FleetConsumer
from ._liveness import LOOKS, Step, Watch, judge, look
from ._outgoing import outgoing_of
from ._queue_kind import Kind, kind_of, learn_kind
from .errors import ConsumerIsDeaf

logger = get_logger("kombu_actors.fleet")

ASK_TIMEOUT = 5.0
"""Seconds for the broker to say how many messages a queue has; without an answer nobody is judged."""
BETWEEN_ASKS = 0.05
"""Seconds between two questions: of a thousand idle queues the broker is asked twenty a second, and each less often."""
RENEWALS = {
    Step.CONSUMER: Renewal.CONSUMER,
    Step.CHANNEL: Renewal.CHANNEL,
    Step.SESSION: Renewal.SESSION,
}


@protected
class Listening:
    """The actor; one for all consumers of a fleet."""

    def __init__(self, consumers: Sequence[FleetConsumer], deaf_after: float) -> None:
        own = {one: deaf_after if one.plan.deaf_after is None else one.plan.deaf_after for one in consumers}
        self._deaf_after = {consumer: seconds for consumer, seconds in own.items() if seconds}
        """Of those that are watched."""
        self._kinds: dict[str, Kind] = {}
        """What has been learnt of queues."""

    async def run(self, ctx: ActorContext) -> None:
        """Watch until told to stop; raises ``ConsumerIsDeaf`` when nothing else is left to be done."""
        broker = outgoing_of(ctx).broker
        ctx.ready()
        period = min(self._deaf_after.values(), default=math.inf) / LOOKS
        with ctx.until_stopping():
            while True:
                await trio.sleep(period)
                silent: dict[str, list[FleetConsumer]] = {}
                for consumer in self._deaf_after:
                    self._look(consumer)
                    if consumer.watch is not None and consumer.watch.silent:
                        silent.setdefault(consumer.plan.name, []).append(consumer)
                for queue, consumers in silent.items():
                    await self._ask(broker, queue, consumers)
                    await trio.sleep(BETWEEN_ASKS)

    def _look(self, consumer: FleetConsumer) -> None:
        now, before = trio.current_time(), consumer.watch
        sight = consumer.sight()
        consumer.watch = Watch.begin(sight, now) if before is None else look(before, sight, now)
        self._tell_cured(consumer, before)

    async def _ask(self, broker: Broker, queue: str, consumers: Sequence[FleetConsumer]) -> None:
        """Ask over the other connection: the one that consumes is what may be at fault."""
        try:
            info = await broker.inspect_queue(queue, timeout=ASK_TIMEOUT)
        except (KombuError, NotFound, AccessRefused, ResourceLocked) as error:
            logger.debug("queue %r: nobody says what waits in it: %s", queue, error)
            return
        for consumer in consumers:
            self._look(consumer)  # what was on its way while the broker answered has come now
            if consumer.watch is not None and consumer.watch.silent:
                await self._judge(broker, consumer, info)

    async def _judge(self, broker: Broker, consumer: FleetConsumer, info: QueueInfo) -> None:
        before, now, deaf_after = consumer.watch, trio.current_time(), self._deaf_after[consumer]
        assert before is not None
        after = judge(before, info.messages > 0, now, deaf_after)
        due = after.step is not None and after.step is not before.step
        if due and await self._is_exempt(broker, consumer, before, info):
            after = judge(before, False, now, deaf_after)
        consumer.watch = after
        self._tell_cured(consumer, before)
        if after.step is not None and after.step is not before.step:
            await self._take(consumer, after, after.step, info.messages)

    async def _is_exempt(self, broker: Broker, consumer: FleetConsumer, watch: Watch, info: QueueInfo) -> bool:
        """Whether its queue keeps messages from it rightly."""
        kind = self._kinds.get(consumer.plan.name)
        if kind is None:
            plan = consumer.plan
            kind = kind_of(plan.queue) if plan.declare else await learn_kind(broker, plan.name, timeout=ASK_TIMEOUT)
            self._kinds[plan.name] = kind
        standby = kind is Kind.SINGLE_ACTIVE and info.consumers > 1 and not watch.heard
        return standby or kind is Kind.STREAM

    async def _take(self, consumer: FleetConsumer, watch: Watch, step: Step, waiting: int) -> None:
        queue, silent_for = consumer.plan.name, trio.current_time() - watch.heard_at
        why = f"deaf: {waiting} messages wait in queue {queue!r}, it has room, and for {silent_for:.0f} s nothing came"
        consumer.deaf(why, step=step.value, silent_for=silent_for, waiting=waiting)
        if step is Step.PROCESS:
            raise ConsumerIsDeaf(
                f"consumer {consumer.id!r} is {why}, also after subscription, channel and session were made anew: "
                "what is wrong is in this process, or between it and the broker; the process ends to be started again"
            )
        logger.warning("consumer %r is %s%s", consumer.id, why, _what_now(step))
        renewal, crew = RENEWALS.get(step), consumer.crew
        if renewal is None or crew is None:
            return
        try:
            await crew.tools.subscription.renew(renewal, timeout=ASK_TIMEOUT)
        except KombuError as error:
            logger.info("queue %r: its %s could not be made anew: %s", queue, renewal.value, error)

    def _tell_cured(self, consumer: FleetConsumer, before: Watch | None) -> None:
        watch = consumer.watch
        if before is None or before.step is None or watch is None or watch.step is not None:
            return
        step, silent_for = before.step.value, trio.current_time() - before.heard_at
        how = "gets messages again" if watch.heard_at > before.heard_at else "has nothing to get any more"
        logger.warning("consumer %r %s, after %.0f s; step taken last: %s", consumer.id, how, silent_for, step)
        consumer.hears(step=step, silent_for=silent_for)


def _what_now(step: Step) -> str:
    return "" if step is Step.DEGRADED else f"; its {step.value} is made anew"
