"""The channel actor: one channel as wished for, with its publisher and its consumers.

``ChannelActor`` is the desired state (QoS, consumers, the publisher's ledger) and lives above
the wire channel; ``live`` is the wire channel of the present epoch.  Channel and publisher are one actor, since the
broker counts publishes for as long as the channel lives: neither can begin again without the other.
The subtree is ONE_FOR_ALL, channel, consumers: consumers can't outlive the channel they speak
over.  A consumer's restart leaves the channel alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio
from amqp import exceptions as amqp_errors

from .._logs import get_logger
from .._values.model import QoS
from ..errors import ChannelLimitExceeded, ConnectionLost
from ..supervisors import (
    ActorContext,
    Backoff,
    ChildSpec,
    Failed,
    Hibernation,
    Outcome,
    Restart,
    RestartLimit,
    Strategy,
    SupervisorSpec,
    root_cause,
)
from ..supervisors._interrupts import protected
from ._waiting import CLOSE_GRACE
from .calls import Calls
from .consumer import CONSUMER_BACKOFF, ConsumerActor, DesiredConsumer
from .deadlines import Deadlines
from .publisher import NO_PUBLISHES, Publisher
from .quarantine import Quarantine
from .session import Session
from .topology import Topology

if TYPE_CHECKING:
    from ..transport._contract import Link, LinkChannel
    from .ordering import Publishes
    from .submissions import Submissions
    from .topology_calls import TopologyCalls

logger = get_logger("kombu_actors.channel")

CHANNEL_LIMIT = RestartLimit(max_restarts=None)
"""Mistakes made over a channel (a missing exchange, a double ack) are answered to whoever made them;
however many there are, they must not take the channel from its other users."""
CHANNEL_BACKOFF = Backoff(first=0.0, base=0.01, maximum=0.25, reset_after=10.0)
"""Opening a channel again costs two round trips, and what was published over it waits; several refused publishes
in a row must not hold the others up.  The cap keeps one that dies all the time from being work for the broker."""


class Epoch:
    """One life of a channel: the wire channel, and what makes its delivery tags unique over all epochs.

    Tags a caller sees are the wire's plus ``tag_offset``, so a tag from a former epoch is
    always less than or equal to the present offset and can be told apart.
    """

    __slots__ = ("subscribing", "tag_offset", "wire")

    def __init__(self, wire: LinkChannel, tag_offset: int) -> None:
        self.wire = wire
        self.tag_offset = tag_offset
        self.subscribing = trio.Lock()
        """Held by the consumer that is asking for its subscription: one at a time, so that who is refused is known."""


class ChannelOwner(Protocol):
    """What a channel and its consumers ask of the connection that they belong to."""

    session: Session
    topology: Topology
    topology_calls: TopologyCalls
    deadlines: Deadlines
    quarantine: Quarantine
    calls: Calls
    channels: dict[int, ChannelActor]
    publishes: Publishes
    submissions: Submissions

    def blocked_because(self) -> str | None:
        """The broker's reason for taking no publishes; None while it takes them."""


@protected
class ChannelActor:
    """One channel of a connection.  ``owner`` supplies the link and restores queues."""

    __slots__ = (
        "_former_tags",
        "consumers",
        "failure",
        "has_been_open",
        "live",
        "number",
        "obstacle",
        "on_epoch",
        "on_gone",
        "owner",
        "promised",
        "publisher",
        "qos",
    )

    def __init__(
        self, number: int, owner: ChannelOwner, on_gone: Callable[[BaseException], None] | None = None
    ) -> None:
        self.number = number
        self.owner = owner
        self.on_gone = on_gone
        self.publisher = Publisher(
            owner.deadlines, owner.quarantine, owner.blocked_because, owner.session.options.make_lock()
        )
        self.publisher.on_first = self._publishes
        self.consumers: dict[str, DesiredConsumer] = {}
        self.qos: QoS | None = None
        self.live: Epoch | None = None
        self.on_epoch: Callable[[Epoch | None], None] | None = None
        """Told of each epoch's beginning, and with None of its end."""
        self.failure: BaseException | None = None
        """Why supervision gave up on it; None while it is supervised."""
        self.obstacle: ChannelLimitExceeded | None = None
        """Why it can't be opened at this moment, though there is a session; it is tried again."""
        self.has_been_open = False
        self.promised = False
        """Whether its maker doesn't wait for it to be opened: then the first time is as any other."""
        self._former_tags = 0
        """The highest delivery tag that anybody has been shown, over all former epochs."""

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
                SupervisorSpec(
                    id="consumers", children=self._consumer_specs, limit=CHANNEL_LIMIT, backoff=CONSUMER_BACKOFF
                ),
            ),
        )

    def consumer_spec(self, consumer: DesiredConsumer) -> ChildSpec:
        """The consumer as a child of ``consumers``."""
        actor = ConsumerActor(self, consumer)
        return ChildSpec(id=consumer.id, start=actor.serve, stop_grace=CLOSE_GRACE, interruptible=False)

    def _consumer_specs(self) -> tuple[ChildSpec, ...]:
        return tuple(map(self.consumer_spec, self.consumers.values()))

    def _publishes(self) -> None:
        self.owner.publishes.publishes(self)

    def set_prefetch(self, count: int) -> None:
        """``set_qos`` of a plain prefetch, which nobody waits for."""
        self.qos = QoS(prefetch_count=count)
        wire = self.live.wire if self.live is not None else None
        try:
            if wire is not None and wire.closed is None:
                wire.prefetch(count)
        except ConnectionLost as lost:
            logger.debug("channel %d: prefetch is left to the next epoch: %s", self.number, lost)

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

    @property
    def is_opening(self) -> bool:
        """Whether it is being opened for the first time, with nothing in its way.  Any thread."""
        unimpeded = self.obstacle is None and self.failure is None and self.owner.session.is_up
        return unimpeded and not self.has_been_open

    def check_obstacle(self) -> None:
        """Raise ``ChannelLimitExceeded`` when it can't be opened at this moment.  Any thread."""
        obstacle = self.obstacle
        if obstacle is not None and self.live is None:
            raise obstacle.with_traceback(None)

    def succeed(self, predecessor: ChannelActor) -> None:
        """Before it starts: take over a channel's QoS, and have its deliveries be those of a former epoch."""
        self.qos, self._former_tags = predecessor.qos, predecessor.highest_tag

    @property
    def highest_tag(self) -> int:
        """The highest delivery tag that anybody has been shown, over all epochs."""
        return self._former_tags if self.live is None else self.live.tag_offset + self.live.wire.highest_tag

    def flush(self) -> None:
        """Let what was appended to the wire leave at once."""
        if self.live is not None:
            self.live.wire.flush()

    async def _serve_channel(self, ctx: ActorContext) -> Hibernation:
        link = self.owner.session.require_link()
        wire = await self._open(link)
        try:
            if self.qos is not None:
                await self._apply_qos(wire)
            self._enter(Epoch(wire, self.highest_tag))
            self.failure = None
            self.has_been_open = True
            ctx.ready()
            silent = self.publisher.ledger is NO_PUBLISHES and not self.owner.quarantine.occupied  # waits for nothing
            with nullcontext() if silent else ctx.until_stopping():
                await self.publisher.attach(wire, link)
        except BaseException:
            await self._leave(ctx, wire)
            raise
        died = partial(self._died, ctx, wire, link)
        if wire.closed is None:
            wire.on_closed(died)
        else:
            died()
        return ctx.hibernate(partial(self._end_channel, wire, link))

    def _died(self, ctx: ActorContext, wire: LinkChannel, link: Link) -> None:
        """The broker, or the link's end, has ended the channel."""
        assert wire.closed is not None
        self.publisher.channel_died(wire.closed, unread=link.blocked is not None)
        self._enter(None)
        if link.closed is None:
            ctx.wake()  # else all channels have ended: that is the session's failure, and not theirs

    async def _end_channel(self, wire: LinkChannel, link: Link, ctx: ActorContext) -> None:
        """Raise why the channel has died, or close it."""
        try:
            if wire.closed is not None:
                if link.closed is None:
                    raise wire.closed
                await ctx.stopping.wait()
        finally:
            await self._leave(ctx, wire)

    async def _leave(self, ctx: ActorContext, wire: LinkChannel) -> None:
        wire.on_closed(None)
        self.publisher.detach()
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
        if (self.has_been_open or self.promised) and self.obstacle is None:
            logger.error(
                "channel %d (%d consumers, %d publishes under way) can't be opened%s: %s; it is tried again until "
                "it succeeds",
                *(self.number, len(self.consumers), self.publisher.under_way),
                *(" again" if self.has_been_open else "", obstacle),
            )
        self.obstacle = obstacle

    def _is_refused_to_its_maker(self, error: BaseException) -> bool:
        """Whether it can't be opened for the first time, as it was asked for: who waits for it is told, and nobody
        else needs it yet."""
        answers = (ChannelLimitExceeded, ValueError, amqp_errors.ChannelError, amqp_errors.IrrecoverableConnectionError)
        return isinstance(error, answers) and not (self.has_been_open or self.promised)

    def _enter(self, epoch: Epoch | None) -> None:
        self._former_tags = self.highest_tag
        self.live = epoch
        if self.on_epoch is not None:
            self.on_epoch(epoch)

    async def _apply_qos(self, wire: LinkChannel) -> None:
        assert self.qos is not None
        if self.qos.plain:
            wire.prefetch(self.qos.prefetch_count)
            return
        await wire.qos(
            prefetch_count=self.qos.prefetch_count,
            prefetch_size=self.qos.prefetch_size,
            apply_global=self.qos.apply_global,
        )

    def _exited(self, outcome: Outcome) -> None:
        if not isinstance(outcome, Failed):
            return
        self.failure = error = root_cause(outcome.error)
        if self._is_refused_to_its_maker(error):
            return
        logger.error("channel %d was given up: %r", self.number, error)
        self.publisher.end(error)
        self.owner.channels.pop(self.number, None)
        self.owner.publishes.forget(self)
        self.owner.quarantine.leave(self.publisher)
        if self.on_gone is not None:
            self.on_gone(error)
