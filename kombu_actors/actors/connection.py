"""The connection actor: the tree of one broker connection, and all that outlives its sessions.

connection   REST_FOR_ONE, unlimited restarts: an outage must not kill the program, and
|            everything later depends on what comes before it
+- deadlines of publishes that are waited for: one timer, which outlives every session
+- session   ONE_FOR_ALL, no restarts: link, reader, writer, heartbeat share their fate
+- topology  replays exchanges -> queues -> bindings; ready = the declared state holds
+- channels  ONE_FOR_ONE, dynamic: a channel's death touches no sibling
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import trio
from amqp import exceptions as amqp_errors

from .._values.endpoint import Endpoint, EndpointSelector, LinkOptions
from .._values.model import BindingSpec, ExchangeSpec, QoS, QueueInfo, QueueSpec
from ..errors import (
    ChannelLimitExceeded,
    ConnectionClosed,
    ConnectionLost,
    InvalidURL,
    KombuError,
)
from ..supervisors import (
    ActorContext,
    ActorDown,
    Backoff,
    ChildSpec,
    ChildStartError,
    ChildState,
    Escalation,
    Event,
    RestartLimit,
    SpecError,
    StartTimeout,
    Strategy,
    Supervisor,
    SupervisorSpec,
    UnknownChild,
    open_supervisor,
    root_cause,
)
from ..supervisors._interrupts import guarded, protected
from ..transport._contract import Link, Transport
from ..utils.dice import new_dice
from ._waiting import CLOSE_GRACE, first_of
from .calls import Calls
from .channel import ChannelActor, Epoch
from .consumer import Consumer, child_id
from .deadlines import Deadlines
from .declaring import Request, TopologyActor
from .ordering import Publishes
from .quarantine import Quarantine
from .session import DialWatcher, Session
from .sharing import identity
from .submissions import Submissions
from .topology import Topology
from .waitlist import Waiting

T = TypeVar("T")
logger = logging.getLogger("kombu_actors.connection")

CONNECTION_BACKOFF = Backoff(
    first=0.0, base=0.25, factor=2.0, maximum=3.0, jitter=0.5, reset_after=5.0, earned=0.1, earned_after=0.5
)
"""The first retry is free, since most drops are single; the cap of 3 s keeps recovery within 5 s of
the broker's return at a dial every 1.5-3 s, which no broker notices.  A session that served for half a
second is taken up again within 0.1 s however often it is lost: at most two dials a second, from a broker
that lets its clients work.  One that accepts and drops is dialled at the growing delays."""
STOP_DEADLINE = 10.0
"""Seconds for the whole tree to stop; below the 30 s that orchestrators allow a process."""
REQUEST_ATTEMPTS = 5
"""How often a declaration is repeated when the session ends over it: it may be what ends it."""
TOPOLOGY_MAILBOX = 64
"""Declarations waiting for the topology actor; more callers wait with their own deadlines."""

PERMANENT = (amqp_errors.AccessRefused, amqp_errors.NotAllowed, InvalidURL)
"""Answers that asking again won't change: wrong password, no such virtual host."""


def _is_of_the_world(error: BaseException) -> bool:
    """Whether an actor's failure is an outage or a refusal, which those concerned are told, and no bug in here."""
    return isinstance(error, KombuError | amqp_errors.AMQPError | OSError | StartTimeout)


@attrs.define
class OwnQueue:
    """A queue of a connection's own; its ``name`` is the first that the broker gave it, None until it is declared."""

    name: str | None = None


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
        failover_strategy: Any = "round-robin",
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
        self.insist = insist
        """Keep dialling when the very first attempt fails; otherwise the tree ends with that failure."""
        self.backoff = backoff
        self.stop_deadline = stop_deadline
        """Seconds for the whole tree to stop; then the link is dropped without an answer to its goodbye."""
        self.failure: BaseException | None = None
        """Why supervision gave up; None while it runs, or has not been started."""
        self.on_failure: Callable[[BaseException], None] | None = None
        """Told the root cause when supervision gives up."""
        self._supervisor: Supervisor | None = None
        self._topology_actor = TopologyActor(self.topology, new_dice())
        self._listener = listener
        self._next_channel = 1

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
                self._supervisor = supervisor
                yield supervisor
        except Escalation as escalation:
            self.failure = root_cause(escalation)
            if self.on_failure is not None:
                self.on_failure(self.failure)
            raise self.failure from self.failure.__cause__  # not from the escalation: that leads back here
        finally:
            self._supervisor = None
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
        link = self.require_link()
        self.publishes.attach(link)
        selector, options = self.session.selector, self.session.options.transport_options
        self._topology_actor.neighbour.arrive(identity(link, selector.current, selector.endpoints, options))
        await self._topology_actor.serve(ctx, link, self.session.farewells)

    # What the tree's own members ask of their connection.

    def require_link(self) -> Link:
        """The present link; ``ConnectionLost`` when there is none."""
        return self.session.require_link()

    def blocked_because(self) -> str | None:
        """The broker's reason for taking no publishes; None while it takes them."""
        link = self.session.link
        return link.blocked if link is not None else None

    async def prepare_to_consume(self, queue: str, exclusive: bool) -> None:
        """Have a queue there before it is consumed from; see ``TopologyActor.prepare_to_consume``."""
        if exclusive or not self._topology_actor.is_made(queue):
            await self._request(lambda actor: actor.prepare_to_consume(queue, exclusive))

    def doubt_queue(self, queue: str) -> None:
        """A consumer of a queue has ended: the queue may be gone with it."""
        self._topology_actor.doubt(queue)

    def is_doubtful(self, queue: str) -> bool:
        """Whether a queue is to be there, and may not be."""
        return self._topology_actor.is_doubtful(queue)

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
        if self._supervisor is None:
            raise self.failure or ConnectionClosed(f"the connection to {self.session.selector.current} is closed")
        return self._supervisor

    @property
    def server_properties(self) -> Mapping[str, Any]:
        """What the broker of the present session said about itself; ``ConnectionLost`` when there is none."""
        return self.require_link().server_properties

    @property
    def sock(self) -> Any:
        """The socket of the present session, to be looked at (``getsockname``, ``getpeername``), not to be used.

        Raises:
            ConnectionLost: there is no session.
            AttributeError: the transport has no socket.
        """
        return self.require_link().sock

    @property
    def waiting(self) -> list[Waiting]:
        """What of the declared topology the broker refuses to restore just now, and when it is tried again."""
        return list(self._topology_actor.waiting)

    async def wait_ready(self) -> None:
        """Wait until the session is up and the declared topology holds, but for what waits."""
        while True:
            await self._or_failure(self.supervisor.wait_ready("topology"))
            link = self.session.link
            if link is not None and link.closed is None:
                return
            await trio.lowlevel.checkpoint()  # it has just ended, and who was READY over it does not know yet

    async def probe(self) -> None:
        """One round trip; a session that doesn't answer in ``connect_timeout`` seconds is given up.

        Raises:
            ConnectionLost: there is no session, or it has just ended.
        """
        link = self.require_link()
        if link.blocked is not None:
            return  # the broker reads nothing from us, and is alive
        with trio.move_on_after(self.session.options.connect_timeout) as patience:
            try:
                await (await link.open_channel()).aclose()
            except ChannelLimitExceeded:
                await self._ask_over_a_channel()
        if patience.cancelled_caught:
            link.kill(ConnectionLost(f"no answer within {self.session.options.connect_timeout:g} s"))

    async def _ask_over_a_channel(self) -> None:
        """One round trip over a channel that is open: asking for deliveries that aren't held up changes nothing."""
        for channel in self.channels.values():
            if channel.live is not None:
                await channel.live.wire.flow(True)
                return

    async def on_this_session(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that doesn't wait for another session, as all others do.

        Raises:
            ConnectionLost: there is no session, or it ended before the call did.
        """
        link = self.require_link()
        answers: list[T] = []
        errors: list[Exception] = []

        async def make() -> None:
            try:
                answers.append(await call())
            except Exception as error:
                errors.append(error)

        await first_of(make, link.wait_closed)
        for error in errors:
            raise error
        if not answers:
            raise ConnectionLost(f"the session with {self.session.selector.current} ended meanwhile") from link.closed
        return answers[0]

    async def dial_now(self) -> None:
        """One dial of one endpoint, now, while ``session.dialler`` is held; returns at once with a live session.

        Raises the dial's failure.
        """
        link = self.session.link
        if link is None or link.closed is not None:
            session = next(child for child in self.supervisor.snapshot().children if child.id == "session")
            if session.state in (ChildState.BACKING_OFF, ChildState.COOLING_DOWN):
                await self.supervisor.restart_child("session", reason="a caller asked to dial now")
            await self.session.dialler.dial_now()
        await self.wait_ready()

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
        channel = ChannelActor(self._next_channel, self, on_gone)
        channel.qos = qos
        if predecessor is not None:
            channel.succeed(predecessor)
        self._next_channel += 1
        self.channels[channel.number] = channel
        try:
            await self._start("channels", channel.spec())
        except BaseException as error:
            self.channels.pop(channel.number, None)
            self._forget("channels", channel.id)
            if channel.failure is not None and isinstance(error, ConnectionClosed):
                raise channel.failure from None  # its supervisor was being restarted, and told nobody
            raise
        return channel

    async def close_channel(self, channel: ChannelActor) -> None:
        """Take a channel out of the desired state; its consumers are cancelled first, in order."""
        left = [] if self.channels.pop(channel.number, None) is None else self._leave(*channel.consumers.values())
        await self._stop("channels", channel.id)  # also what a call that was cancelled has begun to close
        await self._settle_queues(left)
        self.publishes.forget(channel)
        self.quarantine.leave(channel.publisher)

    async def add_consumer(self, channel: ChannelActor, consumer: Consumer) -> None:
        """Add a consumer to the desired state and wait for its first consume-ok.

        Raises the broker's refusal (``NotFound``, ``AccessRefused``, ``ResourceLocked``); then nothing is left behind.
        """
        tag = consumer.spec.tag
        if tag in channel.consumers:
            raise ValueError(f"consumer tag {tag!r} is already in use on channel {channel.number}; cancel it first")
        known = self.topology.names.known(consumer.spec.queue)  # other names are forgotten after a while
        consumer.spec = attrs.evolve(consumer.spec, queue=known)
        refusals: list[BaseException] = []
        parent = f"channels/{channel.id}/consumers"
        channel.consumers[tag] = consumer
        try:
            with trio.CancelScope() as waiting:

                def refused(error: BaseException) -> None:
                    refusals.append(error)
                    waiting.cancel()

                # Heard from the consumer itself: when the channel is restarting just now, its
                # supervisor starts it, and would try again what the caller must be told.
                consumer.on_refused = refused
                await self._start(parent, channel.consumer_spec(consumer))
        except BaseException:
            channel.consumers.pop(tag, None)
            self._forget(parent, consumer.id)
            raise
        finally:
            consumer.on_refused = None
        if refusals:
            self._forget(parent, consumer.id)
            raise refusals[0]
        self.topology.consumer_came(consumer.spec.queue)

    async def remove_consumer(self, channel: ChannelActor, tag: str) -> None:
        """Take a consumer out of the desired state; returns after cancel-ok."""
        consumer = channel.consumers.pop(tag, None)
        left = [] if consumer is None else self._leave(consumer)
        await self._stop(f"channels/{channel.id}/consumers", child_id(tag))  # also what a cancelled call began
        await self._settle_queues(left)

    def _leave(self, *consumers: Consumer) -> list[str]:
        """Note that the program wants them no more; returns their queues."""
        restoring = [consumer.spec.queue for consumer in consumers if consumer.subscribed is None]
        for consumer in consumers:
            self.topology.consumer_left(consumer.spec.queue)
        self.topology.unended.update(queue for queue in restoring if self.topology.is_dormant(queue))
        return [consumer.spec.queue for consumer in consumers]

    async def _settle_queues(self, queues: Sequence[str]) -> None:
        """Finish what was being restored for consumers that have left: nobody else would.

        Auto-delete queues that they never got to consume from are deleted, others that had gone are made again.
        Without a session that is left to the next one.
        """
        for queue in queues:
            if queue in self.topology.unended:
                settle = partial(TopologyActor.end_unused, queue=queue)
            elif self.is_doubtful(queue):
                settle = partial(TopologyActor.restore_queue, queue=queue)
            else:
                continue
            try:
                await self.on_this_session(partial(self._request, settle))
            except ConnectionLost as lost:
                logger.debug("queue %r is left to the next session: %r", queue, lost)

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
            await self._or_failure(self.supervisor.wait_ready(f"channels/{channel.id}/channel"))
        return epoch

    async def wait_subscribed(self, channel: ChannelActor, consumer: Consumer) -> None:
        """Wait until a consumer of the desired state is subscribed in the present session."""
        path = f"channels/{channel.id}/consumers/{consumer.id}"
        while (epoch := consumer.subscribed) is None or epoch.wire.closed is not None:
            if channel.failure is not None:
                raise channel.failure
            await trio.lowlevel.checkpoint()  # as in ``_live_epoch``
            await self._or_failure(self.supervisor.wait_ready(path))

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

    def resume_reading(self) -> None:
        """Undo ``pause_reading``."""
        if self.session.link is not None:
            self.session.link.resume_reading()

    async def after_publishes(self, call: Callable[[], Awaitable[T]], over: ChannelActor | None = None) -> T:
        """Make a call that must find what was published before it over any channel; ``over`` is its own."""
        await self.publishes.come_first(self.session.link, over, own=True)
        return await call()

    async def declare_exchange(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        """Declare an exchange, now and in every later session; passively only look whether it is there."""
        await self._request(lambda actor: actor.declare_exchange(spec, passive))

    async def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange and forget it, with its bindings."""
        await self._request(lambda actor: actor.delete_exchange(name, if_unused))

    async def declare_queue(self, spec: QueueSpec, *, passive: bool = False) -> QueueInfo:
        """Declare a queue, now and in every later session; passively only ask how it stands."""
        return await self._request(lambda actor: actor.declare_queue(spec, passive))

    async def declare_own_queue(self, own: OwnQueue) -> str:
        """Declare a queue that the broker names, once, whoever gives up waiting for that; returns its name."""

        async def declare(actor: TopologyActor) -> str:
            if own.name is None:
                own.name = (await actor.declare_queue(QueueSpec(name="", exclusive=True, durable=False), False)).name
            return own.name

        return await self._request(declare)

    async def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue and forget it, with its bindings; returns how many messages went with it."""
        return await self._request(lambda actor: actor.delete_queue(name, if_unused, if_empty))

    async def purge_queue(self, name: str) -> int:
        """Remove a queue's ready messages; returns how many there were."""
        return await self._request(lambda actor: actor.purge_queue(name))

    async def bind(self, binding: BindingSpec) -> None:
        """Make a binding, now and in every later session."""
        await self._request(lambda actor: actor.bind(binding))

    async def unbind(self, binding: BindingSpec) -> None:
        """Remove a binding and forget it."""
        await self._request(lambda actor: actor.unbind(binding))

    async def _request(self, perform: Callable[[TopologyActor], Awaitable[T]]) -> T:
        """Have the topology actor perform something, again if a restart interrupted it.

        All its operations may be repeated: declaring, binding and deleting twice is the same as once.
        """
        await self.publishes.come_first(self.session.link, own=False)
        for _ in range(REQUEST_ATTEMPTS):
            ref = self.supervisor.ref("topology")
            try:
                answer: T = await ref.ask(Request(perform), timeout=math.inf)
                return answer
            except ActorDown:
                await self.wait_ready()
        raise ConnectionLost(
            f"the session ended {REQUEST_ATTEMPTS} times in a row while the broker was working on this"
        )

    async def _start(self, parent: str, spec: ChildSpec | SupervisorSpec) -> None:
        """Start a child that the desired state already knows, and wait until it serves.

        While its supervisor is down nothing needs to be started: coming up, it starts what it
        finds in the desired state.
        """
        path = f"{parent}/{spec.id}"
        handle = self.supervisor.nested(parent)
        if handle is not None:
            try:
                await handle.start_child(spec)
            except ChildStartError as error:
                cause = root_cause(error)
                # Without a cause it was stopped: by a restart above it, which starts it again.
                if cause is not error and not isinstance(cause, ConnectionLost):
                    raise cause from cause.__cause__
            except (ActorDown, SpecError):
                pass  # its supervisor went down, or came up and has started it already
            else:
                return
        await self._or_failure(self.supervisor.wait_ready(path))

    async def _stop(self, parent: str, child: str) -> None:
        handle = self._supervisor.nested(parent) if self._supervisor is not None else None
        if handle is not None:
            try:
                await handle.remove_child(child)
            except (ActorDown, UnknownChild):
                logger.debug("%s/%s was gone before it was stopped", parent, child)

    def _forget(self, parent: str, child: str) -> None:
        """Have a child stopped that its supervisor may have started meanwhile, out of the desired state or for us.

        Waits for nothing: whoever gave up waiting for its start has no time for its end.
        """
        handle = self._supervisor.nested(parent) if self._supervisor is not None else None
        if handle is not None:
            try:
                handle.remove_child_nowait(child, reason="nobody waits for it any more")
            except (ActorDown, UnknownChild):
                logger.debug("%s/%s was gone before it was stopped", parent, child)

    async def _or_failure(self, wait: Awaitable[T]) -> T:
        try:
            return await wait
        except Escalation as escalation:
            cause = root_cause(escalation)
            raise cause from cause.__cause__
        except ActorDown as down:
            raise self.failure or ConnectionClosed(str(down)) from down
