"""The consumer actor: one subscription as wished for, kept up in every epoch of its channel.

``DesiredConsumer`` is the wish and outlives its epochs; ``ConsumerActor`` is what makes it so while one epoch lasts.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import trio
from amqp import exceptions as amqp_errors

from .._logs import get_logger
from .._values.model import ConsumerSpec, Delivery
from ..errors import ChannelLimitExceeded, ConnectionLost
from ..supervisors import ActorContext, Backoff, Event, Hibernation
from ..supervisors._interrupts import protected
from .calls import CONSUMING, is_answer, may_concern, verdict
from .waitlist import Waiting, refused_again

if TYPE_CHECKING:
    from ..transport._contract import DeliverySink, Link, LinkChannel
    from .channel import ChannelActor, Epoch

__all__ = ["CONSUMER_BACKOFF", "DesiredConsumer", "ConsumerActor", "SubscriptionGap", "child_id"]

logger = get_logger("kombu_actors.channel")

CONSUMER_BACKOFF = Backoff(first=0.0, base=0.1, factor=1.5, maximum=3.0, reset_after=10.0)
"""A queue that another program makes, in its own recovery, is consumed from at most half as much later again as it
was away, since a wait is at most half of those before it; the cap of 3 s keeps a consumer's recovery within 5 s."""


SinkMaker = Callable[["Epoch"], "DeliverySink"]
"""Makes what takes the deliveries of one epoch."""


class SubscriptionGap(Event):
    """A consumer of broadcasts has missed some, or may have: it was not subscribed, or has been too slow.

    Only of queues that the broker keeps nothing for (Redis Pub/Sub; see ``durable_fanout``).
    """

    queue: str
    since: float
    """When the broker was last heard, in seconds since the epoch; the gap can't have begun before.  Of dropped
    broadcasts: when the first of them was heard."""
    until: float
    """When the subscription was in force again; when the last of the dropped ones was heard."""
    dropped: int = 0
    """How many broadcasts were dropped, the oldest first, because the queue's consumers were too far behind; 0 when the
    subscription was not in force, and nobody knows what was published meanwhile."""


class DesiredConsumer:
    """A subscription as wished for, and what hears of it."""

    __slots__ = (
        *("deaf_since", "grants", "on_cancel", "on_end", "on_refused", "rehearse"),
        *("sink", "spec", "subscribed", "suspected", "waiting"),
    )

    def __init__(
        self,
        spec: ConsumerSpec,
        sink: SinkMaker,
        on_cancel: Callable[[], None] | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.spec = spec
        self.sink = sink
        self.on_cancel = on_cancel
        """Told when the broker ended the subscription; supervision restores it regardless."""
        self.on_end = on_end
        """Told each time when a subscription that was granted has ended, for whatever reason."""
        self.on_refused: Callable[[BaseException], None] | None = None
        """Told, while its maker waits, that the broker refuses it; then it is wished for no more."""
        self.waiting: Waiting | None = None
        """How it stands while the broker refuses it; its supervisor knows when it is tried again."""
        self.suspected = False
        """A session ended over a subscription that may be this one: it is asked for while none of the others is."""
        self.rehearse = False
        """Whether its last refusal cost its channel: then it is tried on another one first."""
        self.subscribed: Epoch | None = None
        """The epoch in which it is subscribed at this moment."""
        self.grants = 0
        """How often the broker has granted it."""
        self.deaf_since: float | None = None
        """When a subscription that keeps nothing was last known to be in force; None while it is, or for others."""

    @property
    def id(self) -> str:
        """Its name in the supervision tree."""
        return child_id(self.spec.tag)


def child_id(tag: str) -> str:
    """A consumer's name in the supervision tree: the tag, which may hold any character, without the path's slash."""
    return tag.replace("%", "%25").replace("/", "%2F")


@protected
class ConsumerActor:
    """Has a channel's broker send what its consumer wishes for, in the channel's present epoch."""

    __slots__ = ("_cancelled", "_channel", "_consumer", "_gapless", "_owner")

    def __init__(self, channel: ChannelActor, consumer: DesiredConsumer) -> None:
        self._channel = channel
        self._consumer = consumer
        self._owner = channel.owner
        self._cancelled = False
        """Whether the broker has ended the subscription."""
        self._gapless: Link | None = None
        """The link over which nothing is missed of what the broker keeps nothing for; None of everything else."""

    async def serve(self, ctx: ActorContext) -> Hibernation:
        """Be subscribed until the broker ends it, or the actor is told to stop."""
        channel, consumer = self._channel, self._consumer
        epoch = channel.require_live()
        if epoch.wire.closed is not None:
            if consumer.on_refused is not None:
                raise self._channel_died() from epoch.wire.closed
            raise epoch.wire.closed
        self._cancelled, self._gapless = False, None
        try:
            await self._subscribe(ctx, epoch, consumer.sink(epoch), partial(self._broker_cancelled, ctx))
            self._watch_gaps(ctx, epoch.wire)
        except BaseException:
            await self._leave(ctx)
            raise
        return ctx.hibernate(self._end)

    def _broker_cancelled(self, ctx: ActorContext) -> None:
        self._cancelled = True
        ctx.wake()

    async def _end(self, ctx: ActorContext) -> None:
        """Unsubscribe, or raise that the broker has ended the subscription."""
        consumer = self._consumer
        if self._gapless is not None:
            consumer.deaf_since = time.time() - (trio.current_time() - self._gapless.last_heard)
        await self._leave(ctx)
        if self._cancelled:
            if consumer.on_cancel is not None:
                consumer.on_cancel()
            raise amqp_errors.ConsumerCancelled(
                f"the broker cancelled consumer {consumer.spec.tag!r}: "
                f"queue {consumer.spec.queue!r} was deleted or failed over"
            )

    async def _leave(self, ctx: ActorContext) -> None:
        channel, consumer = self._channel, self._consumer
        granted, consumer.subscribed = consumer.subscribed, None
        if granted is not None and consumer.on_end is not None:
            consumer.on_end()
        try:
            if granted is not None and not self._cancelled:
                await self._unsubscribe(ctx, granted)
        finally:
            # Not cancelled by the program, or by the broker before that: then the queue is gone.
            if consumer.spec.tag in channel.consumers or self._cancelled:
                self._owner.topology_calls.doubt(consumer.spec.queue)

    async def _unsubscribe(self, ctx: ActorContext, epoch: Epoch) -> None:
        """Cancel what was granted, also for who is cancelled: the channel lives on, and its consumers with it."""
        consumer = self._consumer
        if epoch.wire.closed is None:
            with self._owner.session.farewells.say(ctx):
                await epoch.wire.cancel(consumer.spec.tag)

    async def _subscribe(
        self,
        ctx: ActorContext,
        epoch: Epoch,
        sink: DeliverySink,
        on_cancel: Callable[[], None],
    ) -> None:
        """Consume, and be READY."""
        consumer = self._consumer
        spec = consumer.spec
        try:
            if consumer.on_refused is None or self._owner.topology_calls.is_doubtful(spec.queue):
                await self._owner.topology_calls.prepare_to_consume(spec.queue, spec.exclusive)
            present = spec.under(self._owner.topology.names.current(spec.queue))
            rehearsed = self._rehearsal(ctx, present) if consumer.rehearse and not spec.exclusive else nullcontext()
            async with rehearsed, Locked(epoch.subscribing):
                if epoch.wire.closed is not None:
                    raise self._channel_died() from epoch.wire.closed
                async with self._owner.calls.one_by_one if consumer.suspected else nullcontext():
                    await epoch.wire.consume(present, sink, on_cancel)
                consumer.subscribed = epoch
                consumer.grants += 1
        except (ValueError, ChannelLimitExceeded) as refusal:
            self._refused(refusal)  # by this side: arguments beyond a frame, no channel to rehearse on
            raise
        except amqp_errors.ChannelError as refusal:
            if is_answer(refusal, CONSUMING):
                consumer.rehearse = consumer.rehearse or epoch.wire.closed is not None
                self._refused(refusal)
            raise
        except ConnectionLost as lost:
            answer = verdict(lost)
            if answer is not None:
                self._refused(answer)
            else:
                consumer.suspected = consumer.suspected or may_concern(lost, CONSUMING)
            raise
        if consumer.waiting is not None:
            logger.info("consumer %r of queue %r is subscribed again", spec.tag, spec.queue)
        consumer.waiting, consumer.on_refused = None, None
        consumer.rehearse = consumer.suspected = False
        ctx.ready()

    @asynccontextmanager
    async def _rehearsal(self, ctx: ActorContext, present: ConsumerSpec) -> AsyncIterator[None]:
        """Subscribe on a channel that nobody else uses first, where one more refusal would cost others theirs.

        What it is sent there, one message at most, goes back to its place before the block begins; only of a queue
        that would go with its only consumer it comes behind what the block's subscription is sent.
        An exclusive consumer can't be rehearsed; for those the queue's consumers have been counted.
        """
        link = self._owner.session.require_link()
        async with AsyncExitStack() as stack:
            stage = await link.open_channel()

            async def leave() -> None:
                with self._owner.session.farewells.say(ctx):
                    await stage.aclose()

            stack.push_async_callback(leave)
            stage.prefetch(1)
            await stage.consume(present.but(no_ack=False), _drop, _ignore)
            if self._owner.topology.outlives_consumers(present.queue):
                await stack.aclose()
            yield

    def _channel_died(self) -> ConnectionLost:
        return ConnectionLost(f"channel {self._channel.number} died before the subscription")

    def _refused(self, refusal: BaseException) -> None:
        """The first refusal is its maker's, who waits; later ones are said, and it is tried again."""
        consumer = self._consumer
        if consumer.on_refused is not None:
            self._channel.consumers.pop(consumer.spec.tag, None)
            consumer.on_refused(refusal)
            return
        what = f"consumer {consumer.spec.tag!r} of queue {consumer.spec.queue!r}"
        consumer.waiting = waiting = refused_again(consumer.waiting, what, str(refusal), trio.current_time(), 0.0)
        if waiting.loudness is not None:
            logger.log(waiting.loudness, "%s waits: %s; it is tried again until it succeeds", what, refusal)

    def _watch_gaps(self, ctx: ActorContext, wire: LinkChannel) -> None:
        """Of what the broker keeps nothing for: report what was missed before, and what is dropped from now on."""
        consumer = self._consumer

        def dropped(since: float, until: float, count: int) -> None:
            ctx.report(SubscriptionGap, queue=consumer.spec.queue, since=since, until=until, dropped=count)

        if not wire.watch_gaps(consumer.spec.tag, dropped):
            return
        self._gapless = self._owner.session.require_link()
        if consumer.deaf_since is not None:
            ctx.report(SubscriptionGap, queue=consumer.spec.queue, since=consumer.deaf_since, until=time.time())
            consumer.deaf_since = None


class Locked:
    """A lock while it is held: taken at once if it is free, where ``async with`` the lock takes a turn of the loop."""

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def _drop(batch: list[Delivery]) -> None:
    """Deliveries to a rehearsal go back when its channel is closed."""


def _ignore() -> None:
    """A rehearsal that the broker ends has been one all the same."""
