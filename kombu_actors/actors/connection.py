"""The connection actor: the tree of one broker connection, and all that outlives its sessions.

connection   REST_FOR_ONE, unlimited restarts: an outage must not kill the program, and
|            everything later depends on what comes before it
+- deadlines of publishes that are waited for: one timer, which outlives every session
+- session   the link with its reader, writer and heartbeat, which share their fate
+- topology  replays exchanges -> queues -> bindings; ready = the declared state holds
+- channels  ONE_FOR_ONE, dynamic: a channel's death touches no sibling
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import trio
from amqp import exceptions as amqp_errors

from .._logs import get_logger
from .._values.endpoint import Endpoint, EndpointSelector, FailoverStrategy, LinkOptions
from .._values.model import QoS
from ..errors import (
    ConnectionClosed,
    InvalidURL,
    KombuError,
)
from ..supervisors import (
    ActorContext,
    Backoff,
    ChildSpec,
    ChildState,
    Escalation,
    Event,
    RestartLimit,
    StartTimeout,
    Strategy,
    Supervisor,
    SupervisorSpec,
    open_supervisor,
    root_cause,
)
from ..supervisors._interrupts import guarded, protected
from ..utils.dice import new_dice
from ._waiting import CLOSE_GRACE
from .calls import Calls
from .channel import ChannelActor, Epoch
from .children import Children
from .consumers import Consumers
from .deadlines import Deadlines
from .declaring import TopologyActor
from .ordering import Publishes
from .quarantine import Quarantine
from .session import DialWatcher, Session
from .sharing import identity
from .submissions import Submissions
from .topology import Topology
from .topology_calls import TopologyCalls

if TYPE_CHECKING:
    from ..transport._contract import Transport

T = TypeVar("T")
logger = get_logger("kombu_actors.connection")

CONNECTION_BACKOFF = Backoff(
    first=0.0, base=0.25, factor=2.0, maximum=3.0, jitter=0.5, reset_after=5.0, earned=0.1, earned_after=0.5
)
"""The first retry is free, since most drops are single; the cap of 3 s keeps recovery within 5 s of
the broker's return at a dial every 1.5-3 s, which no broker notices.  A session that served for half a
second is taken up again within 0.1 s however often it is lost: at most two dials a second, from a broker
that lets its clients work.  One that accepts and drops is dialled at the growing delays."""
STOP_DEADLINE = 10.0
"""Seconds for the whole tree to stop; below the 30 s that orchestrators allow a process."""
TOPOLOGY_MAILBOX = 64
"""Declarations waiting for the topology actor; more callers wait with their own deadlines."""
SPARE_CHANNELS = 64
"""Channels of a session that nobody may count on: those being closed, and those that a call has for itself."""

PERMANENT = (amqp_errors.AccessRefused, amqp_errors.NotAllowed, InvalidURL)
"""Answers that asking again won't change: wrong password, no such virtual host."""


def _is_of_the_world(error: BaseException) -> bool:
    """Whether an actor's failure is an outage or a refusal, which those concerned are told, and no bug in here."""
    return isinstance(error, KombuError | amqp_errors.AMQPError | OSError | StartTimeout)


@protected
class ConnectionActor:
    """Desired state of one connection, and its tree while that runs.

    Everything is called in the trio thread, except what says otherwise.
    """

    def __init__(
        self,
        transport: Transport,
        endpoints: Sequence[Endpoint],
        options: LinkOptions,
        *,
        failover_strategy: str | FailoverStrategy = "round-robin",
        insist: bool = False,
        backoff: Backoff = CONNECTION_BACKOFF,
        stop_deadline: float = STOP_DEADLINE,
        on_dial_failed: DialWatcher | None = None,
        listener: Callable[[Event], None] | None = None,
    ) -> None:
        self.transport = transport
        selector = EndpointSelector(endpoints, failover_strategy)
        self.session = Session(transport, selector, options, on_dial_failed, min(stop_deadline, CLOSE_GRACE))
        self.topology = Topology(self._is_consumed)
        self.deadlines = Deadlines()
        self.quarantine = Quarantine()
        self.calls = Calls()
        self.channels: dict[int, ChannelActor] = {}
        self.submissions = Submissions()
        self.publishes = Publishes(self.channels, self.submissions)
        self._children = children = Children(self._why_down)
        self._topology_actor = TopologyActor(self.topology, new_dice())
        self.topology_calls = calls = TopologyCalls(self._topology_actor, children, self.session, self.publishes)
        self.consumers = Consumers(children, self.session, self.topology, calls)
        self.insist = insist
        """Keep dialling when the very first attempt fails; otherwise the tree ends with that failure."""
        self.backoff = backoff
        self.stop_deadline = stop_deadline
        """Seconds for the whole tree to stop; then the link is dropped without an answer to its goodbye."""
        self.failure: BaseException | None = None
        """Why supervision gave up; None while it runs, or has not been started."""
        self.on_failure: Callable[[BaseException], None] | None = None
        """Told the root cause when supervision gives up."""
        self._listener = listener
        self._numbers = count(1)

    @guarded
    async def running(self) -> AsyncIterator[Supervisor]:
        """Run the tree while the block runs.

        Raises:
            the root cause, as it was (``AccessRefused``, ...), when supervision gives up.
        """
        self.failure = None
        self.session.epochs = 0
        try:
            async with open_supervisor(
                self._spec(),
                deadline=self.stop_deadline,
                listener=self._listener,
                rng=new_dice(),
                expected=_is_of_the_world,
            ) as supervisor:
                self._children.tree = supervisor
                yield supervisor
        except Escalation as escalation:
            self.failure = root_cause(escalation)
            if self.on_failure is not None:
                self.on_failure(self.failure)
            raise self.failure from self.failure.__cause__  # not from the escalation: that leads back here
        finally:
            self._children.tree = None
            self._topology_actor.neighbour.leave()
            reason = self.failure or ConnectionClosed(f"the connection to {self.session.selector.current} was closed")
            self.session.dialler.answer(reason)
            for channel in self.channels.values():
                channel.publisher.end(reason)

    def _spec(self) -> SupervisorSpec:
        return SupervisorSpec(
            id="connection",
            strategy=Strategy.REST_FOR_ONE,
            limit=RestartLimit(max_restarts=None),
            backoff=self.backoff,
            escalate=self._is_hopeless,
            children=(
                ChildSpec(id="deadlines", start=self.deadlines.serve, interruptible=False),
                self.session.spec(),
                ChildSpec(id="topology", start=self._serve_topology, mailbox=TOPOLOGY_MAILBOX, interruptible=False),
                SupervisorSpec(
                    id="channels",
                    limit=RestartLimit(max_restarts=None),
                    children=lambda: tuple(channel.spec() for channel in self.channels.values()),
                ),
            ),
        )

    def _is_hopeless(self, error: BaseException) -> bool:
        if isinstance(error, PERMANENT):
            return True
        return self.session.epochs == 0 and not self.insist and not self.session.dialler.held

    async def _serve_topology(self, ctx: ActorContext) -> None:
        link = self.session.require_link()
        self.publishes.attach(link)
        selector, options = self.session.selector, self.session.options.transport_options
        self._topology_actor.neighbour.arrive(identity(link, selector.current, selector.endpoints, options))
        await self._topology_actor.serve(ctx, link, self.session.farewells)

    @property
    def gives_up(self) -> bool:
        """Whether supervision has given up, also while what it leaves is still being stopped.  Any thread."""
        tree = self._children.tree  # before the failure, which is there before the tree is gone
        return (tree is not None and tree.gives_up) or self.failure is not None

    # What the tree's own members ask of their connection.

    def blocked_because(self) -> str | None:
        """The broker's reason for taking no publishes; None while it takes them."""
        link = self.session.link
        return link.blocked if link is not None else None

    def _is_consumed(self, known: str) -> bool:
        name = self.topology.names.known
        return any(
            name(consumer.spec.queue) == known
            for channel in self.channels.values()
            for consumer in channel.consumers.values()
        )

    # What callers ask for.  Each waits out restarts; the deadline is the caller's cancel scope.

    @property
    def supervisor(self) -> Supervisor:
        """The running tree.

        Raises:
            the root cause, when supervision has given up; ``ConnectionClosed`` when it isn't running.
        """
        return self._children.supervisor

    def _why_down(self, said: str | None) -> BaseException:
        return self.failure or ConnectionClosed(said or f"the connection to {self.session.selector.current} is closed")

    async def probe(self) -> None:
        """One round trip over the present session; see ``Session.probe``."""
        await self.session.probe(channel.live.wire for channel in self.channels.values() if channel.live is not None)

    async def dial_now(self) -> None:
        """One dial of one endpoint, now, while ``session.dialler`` is held; returns at once with a live session.

        Raises the dial's failure.
        """
        if not self.session.is_up:
            session = next(child for child in self.supervisor.snapshot().children if child.id == "session")
            if session.state in (ChildState.BACKING_OFF, ChildState.COOLING_DOWN):
                await self.supervisor.restart_child("session", reason="a caller asked to dial now")
            await self.session.dialler.dial_now()
        await self.topology_calls.wait_ready()

    def new_channel(self, on_gone: Callable[[BaseException], None] | None) -> ChannelActor:
        """A channel that is to be opened.  Any thread."""
        return ChannelActor(next(self._numbers), self, on_gone)

    def may_promise(self, channels: int) -> bool:
        """Whether one channel more than so many can surely be opened in the present session.  Any thread."""
        link = self.session.link
        return link is not None and link.closed is None and channels + SPARE_CHANNELS < link.channel_max

    def promise_channel(self, channel: ChannelActor) -> None:
        """Add a channel to the desired state; what is asked of it waits until it is open."""
        channel.promised = True
        self.channels[channel.number] = channel
        self._children.start_soon("channels", channel.spec())

    async def open_channel(
        self,
        on_gone: Callable[[BaseException], None] | None = None,
        predecessor: ChannelActor | None = None,
        *,
        qos: QoS | None = None,
    ) -> ChannelActor:
        """Add a channel to the desired state and wait until it is open; see ``ChannelActor.succeed``.

        Raises:
            ChannelLimitExceeded: the connection has no channel left; then nothing is left behind.
        """
        channel = self.new_channel(on_gone)
        channel.qos = qos
        if predecessor is not None:
            channel.succeed(predecessor)
        self.channels[channel.number] = channel
        try:
            await self._children.start("channels", channel.spec())
        except BaseException as error:
            self.channels.pop(channel.number, None)
            self._children.forget("channels", channel.id)
            if channel.failure is not None and isinstance(error, ConnectionClosed):
                raise channel.failure from None  # its supervisor was being restarted, and told nobody
            raise
        return channel

    async def close_channel(self, channel: ChannelActor) -> None:
        """Take a channel out of the desired state; its consumers are cancelled first, in order."""
        is_left = self.channels.pop(channel.number, None) is not None
        queues = self.consumers.leave(*channel.consumers.values()) if is_left else []
        await self._children.stop("channels", channel.id)  # also what a call that was cancelled has begun to close
        await self.consumers.settle_queues(queues)
        self.publishes.forget(channel)
        self.quarantine.leave(channel.publisher)

    async def on_wire(self, channel: ChannelActor, call: Callable[[Epoch], Awaitable[T]]) -> T:
        """Make one call on the channel's present epoch, waiting for it while supervision reopens it; see ``Calls``.

        Raises:
            ChannelLimitExceeded: supervision can't reopen it at this moment: the connection has no channel left.
        """
        return await self.calls.make(partial(self._live_epoch, channel), call)

    async def _live_epoch(self, channel: ChannelActor) -> Epoch:
        while (epoch := channel.live) is None or epoch.wire.closed is not None:
            if channel.failure is not None:
                raise channel.failure
            if self.session.link is not None:
                channel.check_obstacle()
            await trio.lowlevel.checkpoint()  # its actor hears of its death a moment after us
            await self._children.wait_ready(f"channels/{channel.id}/channel")
        return epoch

    def collect(self) -> None:
        """Carry out what threads have handed over, and let it leave at once."""
        self.submissions.take_in()
        self.flush()

    def flush(self) -> None:
        """Let what was written to the link leave at once."""
        if self.session.link is not None:
            self.session.link.flush()

    def pause_reading(self) -> None:
        """Stop taking deliveries in: whoever drains them is behind."""
        if self.session.link is not None:
            self.session.link.pause_reading()

    def read_seldom(self) -> None:
        """Take deliveries in at larger intervals: whoever drains them is behind, if not yet far."""
        if self.session.link is not None:
            self.session.link.read_seldom()

    def resume_reading(self) -> None:
        """Undo ``pause_reading`` and ``read_seldom``."""
        if self.session.link is not None:
            self.session.link.resume_reading()

    async def after_publishes(self, call: Callable[[], Awaitable[T]], over: ChannelActor | None = None) -> T:
        """Make a call that must find what was published before it over any channel; ``over`` is its own."""
        await self.publishes.come_first(self.session.link, over, own=True)
        return await call()
