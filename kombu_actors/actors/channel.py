"""The channel actor: one channel as wished for, with its publisher and its consumers.

``ChannelActor`` is the desired state (QoS, consumers, the publisher's ledger) and lives above
the wire channel; ``live`` is the wire channel of the present epoch.  Its subtree is
ONE_FOR_ALL, channel, publisher, consumers: publisher and consumers can't outlive the channel
they speak over, nor the channel its publisher, whose publishes the broker counts for as long as
the channel lives.  A consumer's restart leaves the channel alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any

import attrs
import trio
from amqp import exceptions as amqp_errors

from .._values.model import Action, ConsumerSpec, Delivery, QoS
from ..errors import ChannelLimitExceeded, ConnectionLost
from ..protocols.ledger import Entry
from ..supervisors import (
    ActorContext,
    Backoff,
    ChildSpec,
    Event,
    Failed,
    Outcome,
    Restart,
    RestartLimit,
    Strategy,
    SupervisorSpec,
    root_cause,
)
from ..supervisors._interrupts import protected
from ..transport._contract import Link, LinkChannel
from ._verdicts import CONSUMING, is_answer, may_concern, verdict
from ._waiting import CLOSE_GRACE, first_of
from .publisher import Publisher
from .waitlist import Waiting, refused_again

logger = logging.getLogger("kombu_actors.channel")

CHANNEL_LIMIT = RestartLimit(max_restarts=None)
"""Mistakes made over a channel (a missing exchange, a double ack) are answered to whoever made them;
however many there are, they must not take the channel from its other users."""
CHANNEL_BACKOFF = Backoff(first=0.0, base=0.01, maximum=0.25, reset_after=10.0)
"""Opening a channel again costs two round trips, and what was published over it waits; several refused publishes
in a row must not hold the others up.  The cap keeps one that dies all the time from being work for the broker."""
CONSUMER_BACKOFF = Backoff(first=0.0, base=0.25, maximum=3.0, reset_after=10.0)
"""The cap of 3 s keeps a consumer's recovery within 5 s."""


@attrs.frozen(eq=False)
class Epoch:
    """One life of a channel: the wire channel, and what makes its delivery tags unique over all epochs.

    Tags a caller sees are the wire's plus ``tag_offset``, so a tag from a former epoch is
    always less than or equal to the present offset and can be told apart.
    """

    wire: LinkChannel
    tag_offset: int
    subscribing: trio.Lock = attrs.field(factory=trio.Lock, repr=False)
    """Held by the consumer that is asking for its subscription: one at a time, so that who is refused is known."""


@attrs.frozen(kw_only=True)
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


Settlement = tuple[Epoch, Action, int, bool]
"""(epoch, action, wire tag, flag): the flag is *multiple*, for REJECT it is *requeue*."""

DeliverySink = Callable[["Epoch", list[Delivery]], None]


@attrs.define(eq=False)
class Consumer:
    """A subscription as wished for, and what hears of it."""

    spec: ConsumerSpec
    sink: DeliverySink
    on_cancel: Callable[[], None] | None = None
    """Told when the broker ended the subscription; supervision restores it regardless."""
    on_end: Callable[[], None] | None = None
    """Told each time when a subscription that was granted has ended, for whatever reason."""
    on_refused: Callable[[BaseException], None] | None = None
    """Told, while its maker waits, that the broker refuses it; then it is wished for no more."""
    waiting: Waiting | None = None
    """How it stands while the broker refuses it; its supervisor knows when it is tried again."""
    suspected: bool = False
    """A session ended over a subscription that may be this one: it is asked for while none of the others is."""
    rehearse: bool = False
    """Whether its last refusal cost its channel: then it is tried on another one first."""
    subscribed: Epoch | None = None
    """The epoch in which it is subscribed at this moment."""
    deaf_since: float | None = None
    """When a subscription that keeps nothing was last known to be in force; None while it is, or for others."""

    @property
    def id(self) -> str:
        """Its name in the supervision tree."""
        return child_id(self.spec.tag)


def child_id(tag: str) -> str:
    """A consumer's name in the supervision tree: the tag, which may hold any character, without the path's slash."""
    return tag.replace("%", "%25").replace("/", "%2F")


@protected
class ChannelActor:
    """One channel of a connection.  ``owner`` supplies the link and restores queues."""

    def __init__(self, number: int, owner: Any, on_gone: Callable[[BaseException], None] | None = None) -> None:
        self.number = number
        self.owner = owner
        self.on_gone = on_gone
        self.publisher = Publisher(
            owner.deadlines, owner.quarantine, owner.blocked_because, owner.session.options.make_lock()
        )
        self.consumers: dict[str, Consumer] = {}
        self.qos: QoS | None = None
        self.live: Epoch | None = None
        self.on_epoch: Callable[[Epoch | None], None] | None = None
        """Told of each epoch's beginning, and with None of its end."""
        self.failure: BaseException | None = None
        """Why supervision gave up on it; None while it is supervised."""
        self.obstacle: ChannelLimitExceeded | None = None
        """Why it can't be opened at this moment, though there is a session; it is tried again."""
        self._has_been_open = False
        self.bag: deque[Entry | Settlement] = deque()
        """Publishes and settlements from other threads; bounded by the publish window and the prefetch."""
        self.bag_posted = False
        self._collecting = False
        """Acks, rejects and requeues that reached the actor after their channel had died."""
        self._highest_tag = 0

    @property
    def id(self) -> str:
        """Its id in the supervision tree, below ``channels``."""
        return str(self.number)

    def spec(self) -> SupervisorSpec:
        """The channel's subtree."""
        return SupervisorSpec(
            id=self.id,
            strategy=Strategy.ONE_FOR_ALL,
            limit=CHANNEL_LIMIT,
            backoff=CHANNEL_BACKOFF,
            restart=Restart.TEMPORARY,
            escalate=self._is_refused_to_its_maker,
            on_exit=self._exited,
            children=(
                ChildSpec(id="channel", start=self._serve_channel, stop_grace=CLOSE_GRACE, interruptible=False),
                ChildSpec(id="publisher", start=self._serve_publisher, interruptible=False),
                SupervisorSpec(
                    id="consumers", children=self._consumer_specs, limit=CHANNEL_LIMIT, backoff=CONSUMER_BACKOFF
                ),
            ),
        )

    def consumer_spec(self, consumer: Consumer) -> ChildSpec:
        """The consumer as a child of ``consumers``."""
        serve = partial(self._serve_consumer, consumer)
        return ChildSpec(id=consumer.id, start=serve, stop_grace=CLOSE_GRACE, interruptible=False)

    def _consumer_specs(self) -> tuple[ChildSpec, ...]:
        return tuple(map(self.consumer_spec, self.consumers.values()))

    async def set_qos(self, qos: QoS) -> None:
        """Remember the QoS for every epoch and apply it to the present one.

        RabbitMQ applies it to consumers started afterwards (``global=false``).

        Raises:
            ValueError, or the broker's refusal: the QoS stays what it was.
        """
        before, self.qos = self.qos, qos
        try:
            if self.live is not None:
                await self._apply_qos(self.live.wire)
        except (ValueError, amqp_errors.ChannelError, amqp_errors.IrrecoverableConnectionError):
            self.qos = before
            raise

    def require_live(self) -> Epoch:
        """The present epoch.

        Raises:
            ConnectionLost: there is none right now; supervision is making one.
        """
        if self.live is None:
            raise ConnectionLost(f"channel {self.number} is not open at the moment; supervision is opening it again")
        return self.live

    def check_obstacle(self) -> None:
        """Raise ``ChannelLimitExceeded`` when it can't be opened at this moment.  Any thread."""
        obstacle = self.obstacle
        if obstacle is not None and self.live is None:
            raise obstacle.with_traceback(None)

    def succeed(self, predecessor: ChannelActor) -> None:
        """Before it starts: take over a channel's QoS, and have its deliveries be those of a former epoch."""
        self.qos, self._highest_tag = predecessor.qos, predecessor._highest_tag

    def saw_tag(self, tag: int) -> None:
        """Remember a delivery tag handed to a caller outside of a consumer (``basic.get``)."""
        self._highest_tag = max(self._highest_tag, tag)

    def collect(self) -> None:
        """Carry out what other threads put into the bag, in the order they did.

        A publish followed by an ack goes out in that order: a worker that publishes its result
        and then acks must not lose both.
        """
        self._collecting = True
        self.bag_posted = False
        bag = self.bag
        entries: list[Entry] = []
        late: list[BaseException] = []
        try:
            while bag:
                item = bag.popleft()
                if isinstance(item, Entry):
                    entries.append(item)
                    continue
                if entries:
                    self.publisher.accept(*entries)
                    entries = []
                died = self.settle(item)
                if died is not None:
                    late.append(died)
        finally:
            if entries:
                self.publisher.accept(*entries)
            self._collecting = False
        if late:
            logger.warning(
                "channel %d: %d decisions (ack, reject, requeue) came too late, their messages are delivered again: %s",
                self.number,
                len(late),
                late[-1],
            )
        self.flush()

    @property
    def idle(self) -> bool:
        """Whether nothing that other threads put into the bag is still on its way.  Any thread.

        The order of the questions is the opposite of the order in which ``collect`` answers them.
        """
        return not self.bag_posted and not self._collecting and not self.bag

    def flush(self) -> None:
        """Let what was appended to the wire leave at once."""
        if self.live is not None:
            self.live.wire.flush()

    def settle(self, settlement: Settlement) -> BaseException | None:
        """Ack, nack or reject; dropped when the delivery's epoch has died: returns of what."""
        epoch, action, tag, flag = settlement
        wire = epoch.wire
        if wire.closed is not None:
            return wire.closed
        if action is Action.ACK:
            wire.ack(tag, multiple=flag)
        elif action is Action.REJECT:
            wire.reject(tag, requeue=flag)
        else:
            wire.nack(tag, multiple=flag, requeue=action is Action.REQUEUE)
        return None

    async def _serve_channel(self, ctx: ActorContext) -> None:
        link: Link = self.owner.require_link()
        wire = await self._open(link)
        try:
            if self.qos is not None:
                await self._apply_qos(wire)
            self._enter(Epoch(wire, self._highest_tag))
            self.failure = None
            self._has_been_open = True
            ctx.ready()
            await first_of(wire.wait_closed, ctx.stopping.wait)
            if wire.closed is not None:
                self.publisher.channel_died(wire.closed, unread=link.blocked is not None)
                raise wire.closed
        finally:
            self._enter(None)
            with self.owner.session.farewells.say(ctx):
                await wire.aclose()

    async def _open(self, link: Link) -> LinkChannel:
        """Open the wire channel; of one that was open before it is said when that can't be done."""
        try:
            wire = await link.open_channel()
        except ChannelLimitExceeded as error:
            self._meets(error)
            raise
        if self.obstacle is not None:
            logger.info("channel %d is open again", self.number)
            self.obstacle = None
        return wire

    def _meets(self, obstacle: ChannelLimitExceeded) -> None:
        if self._has_been_open and self.obstacle is None:
            logger.error(
                "channel %d (%d consumers, %d publishes under way) can't be opened again: %s; it is tried again until "
                "it succeeds",
                *(self.number, len(self.consumers), self.publisher.under_way, obstacle),
            )
        self.obstacle = obstacle

    def _is_refused_to_its_maker(self, error: BaseException) -> bool:
        """Whether it can't be opened for the first time, as it was asked for: who waits for it is told, and nobody
        else needs it yet."""
        answers = (ChannelLimitExceeded, ValueError, amqp_errors.ChannelError, amqp_errors.IrrecoverableConnectionError)
        return isinstance(error, answers) and not self._has_been_open

    def _enter(self, epoch: Epoch | None) -> None:
        self.live = epoch
        if self.on_epoch is not None:
            self.on_epoch(epoch)

    async def _apply_qos(self, wire: LinkChannel) -> None:
        assert self.qos is not None
        await wire.qos(
            prefetch_count=self.qos.prefetch_count,
            prefetch_size=self.qos.prefetch_size,
            apply_global=self.qos.apply_global,
        )

    async def _serve_publisher(self, ctx: ActorContext) -> None:
        await self.publisher.serve(ctx, self.require_live().wire, self.owner.require_link())

    async def _serve_consumer(self, consumer: Consumer, ctx: ActorContext) -> None:
        epoch = self.require_live()
        if epoch.wire.closed is not None:
            if consumer.on_refused is not None:
                raise ConnectionLost(f"channel {self.number} died before the subscription") from epoch.wire.closed
            raise epoch.wire.closed
        cancelled = trio.Event()

        def sink(batch: list[Delivery]) -> None:
            self._highest_tag = max(self._highest_tag, epoch.tag_offset + batch[-1].delivery_tag)
            consumer.sink(epoch, batch)

        try:
            await self._subscribe(ctx, consumer, epoch, sink, cancelled.set)
            with self._noting_gaps(ctx, consumer, epoch.wire):
                await first_of(cancelled.wait, ctx.stopping.wait)
        finally:
            granted, consumer.subscribed = consumer.subscribed, None
            if granted is not None and consumer.on_end is not None:
                consumer.on_end()
            try:
                if granted is not None and not cancelled.is_set():
                    await self._unsubscribe(ctx, consumer, granted)
            finally:
                # Not cancelled by the program, or by the broker before that: then the queue is gone.
                if consumer.spec.tag in self.consumers or cancelled.is_set():
                    self.owner.doubt_queue(consumer.spec.queue)
        if cancelled.is_set():
            if consumer.on_cancel is not None:
                consumer.on_cancel()
            raise amqp_errors.ConsumerCancelled(
                f"the broker cancelled consumer {consumer.spec.tag!r}: "
                f"queue {consumer.spec.queue!r} was deleted or failed over"
            )

    async def _unsubscribe(self, ctx: ActorContext, consumer: Consumer, epoch: Epoch) -> None:
        """Cancel what was granted, also for who is cancelled: the channel lives on, and its consumers with it."""
        if epoch.wire.closed is None:
            with self.owner.session.farewells.say(ctx):
                await epoch.wire.cancel(consumer.spec.tag)

    async def _subscribe(
        self,
        ctx: ActorContext,
        consumer: Consumer,
        epoch: Epoch,
        sink: Callable[[list[Delivery]], None],
        on_cancel: Callable[[], None],
    ) -> None:
        """Consume, and be READY."""
        spec = consumer.spec
        try:
            if consumer.on_refused is None or self.owner.is_doubtful(spec.queue):
                await self.owner.prepare_to_consume(spec.queue, spec.exclusive)
            present = attrs.evolve(spec, queue=self.owner.topology.names.current(spec.queue))
            async with self._rehearsal(ctx, consumer, present), epoch.subscribing:
                if epoch.wire.closed is not None:
                    raise ConnectionLost(f"channel {self.number} died before the subscription") from epoch.wire.closed
                async with self.owner.calls.one_by_one if consumer.suspected else nullcontext():
                    await epoch.wire.consume(present, sink, on_cancel)
                consumer.subscribed = epoch
        except (ValueError, ChannelLimitExceeded) as refusal:
            self._refused(consumer, refusal)  # by this side: arguments beyond a frame, no channel to rehearse on
            raise
        except amqp_errors.ChannelError as refusal:
            if is_answer(refusal, CONSUMING):
                consumer.rehearse = consumer.rehearse or epoch.wire.closed is not None
                self._refused(consumer, refusal)
            raise
        except ConnectionLost as lost:
            answer = verdict(lost)
            if answer is not None:
                self._refused(consumer, answer)
            else:
                consumer.suspected = consumer.suspected or may_concern(lost, CONSUMING)
            raise
        if consumer.waiting is not None:
            logger.info("consumer %r of queue %r is subscribed again", spec.tag, spec.queue)
        consumer.waiting, consumer.on_refused = None, None
        consumer.rehearse = consumer.suspected = False
        ctx.ready()

    @asynccontextmanager
    async def _rehearsal(self, ctx: ActorContext, consumer: Consumer, present: ConsumerSpec) -> AsyncIterator[None]:
        """Subscribe on a channel that nobody else uses first, where one more refusal would cost others theirs.

        What it is sent there, one message at most, goes back to its place before the block begins; only of a queue
        that would go with its only consumer it comes behind what the block's subscription is sent.
        An exclusive consumer can't be rehearsed; for those the queue's consumers have been counted.
        """
        if not consumer.rehearse or consumer.spec.exclusive:
            yield
            return
        link: Link = self.owner.require_link()
        async with AsyncExitStack() as stack:
            stage = await link.open_channel()

            async def leave() -> None:
                with self.owner.session.farewells.say(ctx):
                    await stage.aclose()

            stack.push_async_callback(leave)
            await stage.qos(prefetch_count=1)
            await stage.consume(attrs.evolve(present, no_ack=False), _drop, _ignore)
            if self.owner.topology.outlives_consumers(present.queue):
                await stack.aclose()
            yield

    def _refused(self, consumer: Consumer, refusal: BaseException) -> None:
        """The first refusal is its maker's, who waits; later ones are said, and it is tried again."""
        if consumer.on_refused is not None:
            self.consumers.pop(consumer.spec.tag, None)
            consumer.on_refused(refusal)
            return
        what = f"consumer {consumer.spec.tag!r} of queue {consumer.spec.queue!r}"
        consumer.waiting = waiting = refused_again(consumer.waiting, what, str(refusal), trio.current_time(), 0.0)
        if waiting.loudness is not None:
            logger.log(waiting.loudness, "%s waits: %s; it is tried again until it succeeds", what, refusal)

    @contextmanager
    def _noting_gaps(self, ctx: ActorContext, consumer: Consumer, wire: LinkChannel) -> Iterator[None]:
        def dropped(since: float, until: float, count: int) -> None:
            ctx.report(SubscriptionGap, queue=consumer.spec.queue, since=since, until=until, dropped=count)

        if not wire.watch_gaps(consumer.spec.tag, dropped):
            yield
            return
        link: Link = self.owner.require_link()
        if consumer.deaf_since is not None:
            ctx.report(SubscriptionGap, queue=consumer.spec.queue, since=consumer.deaf_since, until=time.time())
            consumer.deaf_since = None
        try:
            yield
        finally:
            consumer.deaf_since = time.time() - (trio.current_time() - link.last_heard)

    def _exited(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            return
        self.failure = error = root_cause(outcome.error)
        if self._is_refused_to_its_maker(error):
            return
        logger.error("channel %d was given up: %r", self.number, error)
        self.publisher.end(error)
        self.owner.channels.pop(self.number, None)
        self.owner.quarantine.leave(self.publisher)
        if self.on_gone is not None:
            self.on_gone(error)


def _drop(batch: list[Delivery]) -> None:
    """Deliveries to a rehearsal go back when its channel is closed."""


def _ignore() -> None:
    """A rehearsal that the broker ends has been one all the same."""
