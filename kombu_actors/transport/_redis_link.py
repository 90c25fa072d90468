"""One live link to Redis: two connections, a lease, and what its channels share.

Commands and replies go over ``main``; what the server says unasked (words to waiting claimers, lists that
have changed, broadcasts) comes over ``listener``.  The link lives as long as all of them, and as long as its lease:
a server-side deadline that the ``keeper`` moves on.  Whoever finds it overrun gives the link's messages back, and the
server refuses every later script of the link (``FENCED``), so that no message has two owners.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Final, TypeVar
from uuid import uuid4

import attrs
import trio
from amqp.exceptions import AMQPError

from ..errors import ChannelLimitExceeded, ConnectionClosed, ConnectionLost
from ..protocols.redis import consuming_calls as consuming
from ..protocols.redis import publish_calls
from ..protocols.redis.calls import Call, Death
from ..protocols.redis.consuming_calls import Beaten, Left, Owner, Settled
from ..protocols.redis.dead_letters import dead_letter_arguments
from ..protocols.redis.envelope import Envelope, UndecodableEnvelope, decode
from ..protocols.redis.layout import Layout
from ..protocols.redis.options import RedisOptions
from ..protocols.redis.publish_calls import Published
from ..protocols.redis.scripts import ALL_SCRIPTS
from ._redis_channel import RedisChannel
from ._redis_claims import Claimer
from ._redis_errors import Consequence, ErrorReply, LeaseLost, consequence_of, translate
from ._redis_fanout import Fanout, Leftovers
from ._redis_outbox import Decision, Publish, PublishQueue, Settlements
from ._redis_tags import new_tag
from ._redis_wire import RedisWire, parted
from ._waiting import Ending, PendingReply

__all__ = ["PUBLISHER_ROLES", "ROLES", "RedisLink", "Wires"]

T = TypeVar("T")

logger = logging.getLogger("kombu_actors.redis")

ROLES: Final[Sequence[str]] = ("reader", "writer", "listener", "listener-writer", "keeper")
PUBLISHER_ROLES: Final[Sequence[str]] = ("publisher", "publisher-writer")
"""Besides, when publishes are confirmed by replicas: waiting for those would hold up everything else."""
REPLICA_PATIENCE: Final = 1000
"""Milliseconds after which the server says how many replicas have it so far, and is asked again."""
BEAT: Final = 1.0
"""Seconds between renewals of the lease, which also look for what others left behind: a dead process's messages
are found within two of them, and 0.1 % of a core pays for it."""
LATER: Final = 0.005
"""Seconds that a few settlements, or a little room, wait for more of their kind."""
CHANNEL_MAX: Final = 2047
"""RabbitMQ's own default."""


@attrs.frozen(eq=False)
class Wires:
    """The connections of one link."""

    main: RedisWire
    listener: RedisWire
    publisher: RedisWire
    """The main one, unless publishes are confirmed by replicas."""

    def all(self) -> tuple[RedisWire, ...]:
        """Each once."""
        return tuple(dict.fromkeys((self.main, self.listener, self.publisher)))


@attrs.define(eq=False)
class Schedule:
    """When the keeper acts next, in seconds of trio's clock."""

    beat: float = 0.0
    timer: float = inf
    """The next message or queue that expires, as far as we were told."""
    later: float = inf
    """Small things that wait for more of their kind."""
    renewal: float = 0.0
    """When stock kombu would begin to take our messages for abandoned."""
    changed: trio.Event = attrs.field(factory=trio.Event)

    def bring_forward(self, name: str, at: float) -> None:
        """Act on ``name`` at the latest then."""
        if at < getattr(self, name):
            setattr(self, name, at)
            self.changed.set()


class Watch:
    """The lists whose sentries we are."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._sentries: dict[bytes, set[Claimer]] = {}

    def add(self, claimer: Claimer, lists: tuple[bytes, ...]) -> None:
        """Have the server say when one of the lists changes; at once, if one holds something now."""
        for key in lists:
            self._sentries.setdefault(key, set()).add(claimer)
        self._link.listen_for(("EXISTS", *lists), lambda found: claimer.woken() if found else None)

    def remove(self, claimer: Claimer, lists: Iterable[bytes]) -> None:
        """Forget that it watches them."""
        for key in lists:
            claimers = self._sentries.get(key)
            if claimers is not None:
                claimers.discard(claimer)
                if not claimers:
                    del self._sentries[key]

    def changed(self, keys: Iterable[bytes] | None) -> None:
        """The server says that these keys changed; None is all of them."""
        for key in list(self._sentries) if keys is None else keys:
            for claimer in tuple(self._sentries.get(key, ())):
                claimer.woken()


class RedisLink:
    """A connection as ``transport._link.Link`` describes it.  Made by ``RedisTransport.connect``."""

    def __init__(
        self,
        wires: Wires,
        *,
        owner: str,
        layout: Layout,
        options: RedisOptions,
        server_properties: Mapping[str, Any],
        run_id: str,
        heartbeat: float,
        leftovers: Leftovers,
        lookout: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``lookout`` ends when this server is no longer the primary, and raises ``ConnectionLost`` then."""
        self.name = wires.main.name
        self.owner = owner
        """Our id as holder of a lease."""
        self.layout = layout
        self.options = options
        self.common = layout.common(owner)
        self.server_properties = server_properties
        self.publishes = PublishQueue()
        self.settlements = Settlements()
        self.paused = False
        self.fanout = Fanout(self, leftovers)
        self.watch = Watch(self)
        self.roles: Sequence[str] = ROLES if wires.publisher is wires.main else (*ROLES, *PUBLISHER_ROLES)
        self._lookout = lookout
        self._wires = wires
        self._run_id = run_id
        self._settings = publish_calls.settings(
            layout.fanout_prefix.format(db=layout.database),
            fanout_patterns=layout.fanout_patterns,
            deadletter_queue=options.deadletter_queue,
        )
        self._heartbeat = heartbeat
        self._channels: dict[int, RedisChannel] = {}
        self._schedule = Schedule()
        self._later: set[Claimer] = set()
        self._alarms: list[Callable[[str | None], None]] = []
        self._blocked: str | None = None
        self._ending = Ending()
        wires.publisher.gather = self._gather
        wires.listener.on_push = self._pushed

    def __repr__(self) -> str:
        return f"<RedisLink to {self.name}, {'open' if self.closed is None else 'dead'}>"

    # -- life and death ------------------------------------------------------------------------

    @property
    def closed(self) -> BaseException | None:
        """Why the link is dead; None while it lives."""
        return self._ending.reason

    async def wait_closed(self) -> BaseException:
        """Wait until the link is dead and say why."""
        return await self._ending.wait()

    def kill(self, reason: BaseException) -> None:
        """Drop both connections at once; every waiter gets ``reason``."""
        if self._ending.reason is None:
            self._not_settled(self.settlements.count, reason)
            self._ending.happen(reason)
            self.fanout.end()
            for channel in list(self._channels.values()):
                channel.end(reason)
            self._channels.clear()
            if not isinstance(reason, ConnectionClosed):
                self.fanout.bequeath()
            self._schedule.changed.set()
        for wire in self._wires.all():
            wire.kill(reason)

    async def aclose(self) -> None:
        """Say goodbye: what was appended leaves, what is unsettled goes back, then the connections end.

        Bounded by the caller's scope; then, or when cancelled, the server finds out by itself.
        """
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        try:
            async with trio.open_nursery() as nursery:
                # Whoever served the link may have been cancelled already, or not have begun.
                main = self._wires.main
                for role, serve in {"reader": main.run_reader, "writer": main.run_writer}.items():
                    if not main.serves(role):
                        nursery.start_soon(serve)
                self.settle_now()
                await self.call(consuming.release(self.owner))
                nursery.cancel_scope.cancel()
        finally:
            self.kill(parted(self.name))

    async def run(self, role: str) -> None:
        """Serve one role until the link dies, then raise why (return after ``aclose``)."""
        wires = self._wires
        serve = {
            "reader": wires.main.run_reader,
            "writer": wires.main.run_writer,
            "listener": wires.listener.run_reader,
            "listener-writer": wires.listener.run_writer,
            "publisher": wires.publisher.run_reader,
            "publisher-writer": wires.publisher.run_writer,
            "keeper": self._keep,
        }[role]
        try:
            await serve()
        except Exception as error:
            self.kill(error)
            raise
        for wire in wires.all():
            if wire.closed is not None:
                self.kill(wire.closed)
        reason = await self._ending.wait()
        if not isinstance(reason, ConnectionClosed):
            raise reason.with_traceback(None)

    # -- scripts -------------------------------------------------------------------------------

    def submit(
        self,
        call: Call[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None = None,
        *,
        wire: RedisWire | None = None,
    ) -> None:
        """Call a script; ``done(what it said)`` or ``failed(why not)`` is called once, in the order of the calls."""
        wire = wire or self._wires.main
        if self._serves(wire):
            wire.send(call.command(self.common), partial(self._answered, call, done, failed, wire))
        elif failed is not None and self._ending.reason is not None:
            failed(self._ending.reason)

    def _serves(self, wire: RedisWire) -> bool:
        """Whether commands can be sent; a wire that has died takes the link along, before its role tells."""
        if wire.closed is not None:
            self.kill(wire.closed)
        return self._ending.reason is None

    def _answered(
        self,
        call: Call[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None,
        wire: RedisWire,
        reply: Any,
    ) -> None:
        error: BaseException
        if not isinstance(reply, BaseException):
            try:
                said = call.parse(reply)
            except AMQPError as refusal:
                error = refusal
            else:
                done(said)
                return
        elif isinstance(reply, ErrorReply):
            consequence = consequence_of(reply.text)
            if consequence is Consequence.RELOAD:
                self._load_scripts(wire)
                self.submit(call, done, failed, wire=wire)
                return
            error = translate(reply.text, call.script.name)
            if consequence is Consequence.LINK_DIES:
                self.kill(error)
        else:
            error = reply
        if failed is not None:
            failed(error)
        elif self._ending.reason is None:
            logger.error("%s: %s", self.name, error)

    def _load_scripts(self, wire: RedisWire) -> None:
        for script in ALL_SCRIPTS.values():
            wire.send(("SCRIPT", "LOAD", script.text), self._loaded)

    def _loaded(self, reply: Any) -> None:
        if isinstance(reply, ErrorReply):
            self.kill(translate(reply.text, "SCRIPT LOAD"))

    async def call(self, call: Call[T], *, undo: Callable[[T], None] | None = None) -> T:
        """Call a script after all that was decided before, and wait for what it says.

        Cancelled, what it says goes to ``undo``.
        """
        self._ending.check()
        self.settle_now()
        pending = PendingReply(undo=undo)
        self.submit(call, pending.resolve, pending.fail)
        said: T = await pending.wait()
        return said

    def _gather(self) -> None:
        """Before the writer sends: what has gathered becomes calls."""
        if self.publishes.ready:
            batch = self.publishes.take()
            call = publish_calls.publish(self._settings, [publish.prepared.arguments for publish in batch])
            done = self._await_replicas if self.options.confirm_replicas else self._published
            self.submit(call, done, self._not_published, wire=self._wires.publisher)

    def flush(self) -> None:
        """Let what was appended leave at once if nothing stands in its way."""
        self._wires.publisher.flush()
        if self._wires.publisher is not self._wires.main:
            self._wires.main.flush()

    # -- publishing ----------------------------------------------------------------------------

    def publish(self, publish: Publish) -> None:
        """Append one publish."""
        self.publishes.waiting.append(publish)
        self._wires.publisher.wake()

    def _await_replicas(self, answer: Published) -> None:
        """Ask until enough replicas have what was published: until then nobody is told that it is safe."""

        def heard(reply: Any) -> None:
            if isinstance(reply, ErrorReply):
                self.kill(translate(reply.text, "WAIT"))
            elif isinstance(reply, int) and reply >= self.options.confirm_replicas:
                self._published(answer)
            elif not isinstance(reply, BaseException):
                self._await_replicas(answer)

        if self._serves(self._wires.publisher):
            self._wires.publisher.send(("WAIT", self.options.confirm_replicas, REPLICA_PATIENCE), heard)

    def _published(self, answer: Published) -> None:
        batch = self.publishes.answered()
        self._set_blocked(None)
        for error in answer.errors:
            logger.error("%s: a publish could not be stored: %s", self.name, error)
        self.attend(answer.deaths, answer.next_timer)
        by_channel: dict[RedisChannel, list[tuple[Publish, int]]] = {}
        for publish, code in zip(batch, answer.codes, strict=True):
            by_channel.setdefault(publish.channel, []).append((publish, code))
        for channel, publishes in by_channel.items():
            channel.answered(publishes)
        if self.publishes.waiting:
            self._wires.publisher.wake()

    def _not_published(self, error: BaseException) -> None:
        """Nothing of the batch is stored: memory is full, mostly.  It is tried again with every beat."""
        if self._ending.reason is not None:
            return
        self.publishes.refuse(str(error))
        self._set_blocked(str(error))

    def _try_again(self) -> None:
        """The server took no publishes: see whether it does now."""

        def answered(reply: Any) -> None:
            still = isinstance(reply, ErrorReply) and consequence_of(reply.text) is Consequence.BLOCKED
            if not still and self._ending.reason is None:
                self.publishes.refused = None
                self._set_blocked(None)

        if self.publishes.waiting:
            self.publishes.refused = None
            self._wires.publisher.wake()
        else:
            # All that waited was withdrawn.  This writes nothing, and is refused like a write.
            self._wires.main.send(("SETRANGE", self.layout.namespace + b"nothing", 0, b""), answered)

    def _set_blocked(self, reason: str | None) -> None:
        if (reason is None) != (self._blocked is None):
            self._blocked = reason
            for watcher in tuple(self._alarms):
                watcher(reason)

    @property
    def last_heard(self) -> float:
        """When the server last said anything, in seconds of trio's clock."""
        return min(wire.last_heard for wire in self._wires.all())

    @property
    def blocked(self) -> str | None:
        """The server's reason for taking no publishes (its memory is full, ...); None when it does."""
        return self._blocked

    def on_blocked(self, watcher: Callable[[str | None], None]) -> Callable[[], None]:
        """Call ``watcher(reason)`` when the server blocks publishes, ``watcher(None)`` when it unblocks.

        Returns what ends that.
        """
        self._alarms.append(watcher)
        return partial(self._alarms.remove, watcher)

    # -- settling ------------------------------------------------------------------------------

    def settle(self, decision: Decision, claims: Sequence[int]) -> None:
        """Note what was decided about claims; it leaves soon."""
        self.settlements.add(decision, claims)
        if self.settlements.full:
            self.settle_now()
        else:
            self._schedule.bring_forward("later", trio.current_time() + LATER)

    def settle_now(self) -> None:
        """Send what was decided."""
        if self.settlements.count and self._ending.reason is None:
            count = self.settlements.count
            settle = consuming.settle(*self.settlements.take())
            self.submit(settle, self._settled, lambda error: self._not_settled(count, error))

    def _not_settled(self, count: int, error: BaseException) -> None:
        # After any other loss nobody knows; what was not acknowledged comes again, as on every transport.
        if count and isinstance(error, LeaseLost):
            logger.error("%s: %d decisions (ack, reject, requeue) came too late: %s", self.name, count, error)
        elif count and self._ending.reason is None:
            logger.error("%s: %s", self.name, error)

    async def settled(self) -> None:
        """Wait until what was decided has been carried out."""
        self._settled(await self.call(consuming.settle(*self.settlements.take())))

    def _settled(self, settled: Settled) -> None:
        self.attend(settled.deaths)
        if settled.stale:
            logger.error(
                "%s: %d decisions (ack, reject, requeue) came too late: a stock kombu consumer had taken the messages"
                " for abandoned and put them back; raise its visibility_timeout",
                self.name,
                len(settled.stale),
            )

    def attend(self, deaths: Sequence[Death], next_timer: float | None = None) -> None:
        """See to what a script left to us: dead letters to write, a time (in so many seconds) to come back at."""
        if next_timer is not None:
            self._schedule.bring_forward("timer", trio.current_time() + next_timer)
        for death in deaths:
            try:
                letter = dead_letter_arguments(
                    death,
                    layout=self.layout,
                    new_tag=new_tag,
                    now=time.time(),
                    body_encoding=self.options.body_encoding,
                )
            except UndecodableEnvelope as error:
                self.quarantine(death.queue, death.claim, error)
            else:
                self.submit(publish_calls.bury(death.claim, self._settings, letter), self._buried)

    def _buried(self, answer: Published | None) -> None:
        if answer is not None:
            for error in answer.errors:
                logger.error("%s: a dead letter could not be stored, its message is kept: %s", self.name, error)
            self.attend(answer.deaths, answer.next_timer)

    def decoded(self, queue: str, claim: int, raw: bytes, *, counted: bool = False) -> Envelope | None:
        """Read a claimed message; one that can't be read is put aside."""
        try:
            return decode(raw, queue=queue, counted=counted)
        except UndecodableEnvelope as error:
            self.quarantine(queue, claim, error)
            return None

    def quarantine(self, queue: str, claim: int, error: UndecodableEnvelope) -> None:
        """Put a message aside that nobody can read."""
        logger.error(
            "%s: a message in queue %r can't be read; it is %s: %s",
            self.name,
            queue,
            f"put aside, in list {self.layout.namespace.decode()}undecodable" if claim else "dropped (no_ack)",
            error,
        )
        if claim:
            self.submit(consuming.quarantine(claim), _nothing)

    # -- claiming ------------------------------------------------------------------------------

    def look_later(self, claimer: Claimer) -> None:
        """Have a claimer look in a moment: a little room may become more."""
        self._later.add(claimer)
        self._schedule.bring_forward("later", trio.current_time() + LATER)

    def pause_reading(self) -> None:
        """Claim nothing until ``resume_reading``."""
        self.paused = True

    def resume_reading(self) -> None:
        """Undo ``pause_reading``; a no-op when not paused."""
        self.paused = False
        for channel in self._channels.values():
            channel.look_everywhere()

    # -- listening -----------------------------------------------------------------------------

    async def listen_to_words(self) -> None:
        """Have the server tell us of changed lists, and of words to our claimers."""
        words = self.layout.namespace + b"wake." + self.owner.encode()
        for command in (("CLIENT", "TRACKING", "ON"), ("SUBSCRIBE", words)):
            try:
                await self._wires.listener.call(*command)
            except ErrorReply as error:
                raise translate(error.text, command[0]) from None

    def listen(
        self, command: str, pattern: bytes, done: Callable[[Exception | None], None] = lambda refusal: None
    ) -> None:
        """Subscribe to a pattern of topics, or end that; ``done`` is told the server's refusal, if it refuses."""

        def answered(reply: Any) -> None:
            refused = isinstance(reply, ErrorReply)
            done(translate(reply.text, f"{command} {pattern.decode()}") if refused else None)

        if self._serves(self._wires.listener):
            self._wires.listener.send((command, pattern), answered)

    def listen_for(self, command: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        """Ask something over the connection that is told of changes.  Who can't ask would be deaf: the link dies."""

        def answered(reply: Any) -> None:
            if isinstance(reply, ErrorReply):
                self.kill(translate(reply.text, command[0]))
            elif not isinstance(reply, BaseException):
                done(reply)

        if self._serves(self._wires.listener):
            self._wires.listener.send(command, answered)

    def _pushed(self, push: list[Any]) -> None:
        match push:
            case [b"invalidate", keys]:
                self.watch.changed(keys)
            case [b"pmessage", pattern, _, raw]:
                self.fanout.heard(pattern, raw)
            case [b"message", _, text]:
                self._told(text.decode())

    def _told(self, text: str) -> None:
        word, _, name = text.partition(" ")
        if word == "w":
            for channel in self._channels.values():
                channel.look(name)
        elif word == "x":
            for channel in list(self._channels.values()):
                channel.queue_deleted(name)
        elif word == "f":
            self.listen_for(
                ("SMEMBERS", self.layout.namespace + b"fanout." + name.encode()),
                lambda topics: self.fanout.changed(name, consuming.read_topics(topics, self.layout.sep)),
            )

    # -- the keeper ----------------------------------------------------------------------------

    async def _keep(self) -> None:
        schedule = self._schedule
        async with trio.open_nursery() as nursery:
            for wire in self._wires.all():
                nursery.start_soon(wire.run_pulse, self._heartbeat)
            if self._lookout is not None:
                nursery.start_soon(self._look_out, self._lookout)
            while self._ending.reason is None:
                now = trio.current_time()
                if now >= schedule.later:
                    schedule.later = inf
                    self.settle_now()
                    claimers, self._later = self._later, set()
                    for claimer in claimers:
                        claimer.look()
                if now >= min(schedule.beat, schedule.timer):
                    self._beat(now)
                schedule.changed = trio.Event()
                with trio.move_on_at(min(schedule.beat, schedule.timer, schedule.later)):
                    await schedule.changed.wait()
            nursery.cancel_scope.cancel()

    async def _look_out(self, until_moved: Callable[[], Awaitable[None]]) -> None:
        try:
            await until_moved()
        except ConnectionLost as moved:
            self.kill(moved)

    def _beat(self, now: float) -> None:
        schedule = self._schedule
        schedule.beat, schedule.timer = now + BEAT, inf
        visibility = self.options.visibility_timeout
        renew = now >= schedule.renewal
        if renew:
            schedule.renewal = now + visibility / 3
        if self.publishes.refused is not None:
            self._try_again()
        self.submit(consuming.beat(self.options.lease, visibility, renew=renew), self._beaten)

    def _beaten(self, beaten: Beaten) -> None:
        self.attend(beaten.deaths, beaten.next_timer)
        if beaten.owners:
            self._look_after(beaten.owners)

    def _look_after(self, others: Sequence[Owner]) -> None:
        """Give back what links hold whose connection is gone: their process died, or dropped them."""
        here = [other for other in others if other.run == self._run_id or not (other.run and self._run_id)]
        for other in others:
            if other not in here:
                self._release(other.owner)
        if not here:
            return

        def listed(reply: Any) -> None:
            if isinstance(reply, BaseException):
                return  # not allowed to look: their leases run out in time
            alive = {field[3:] for line in reply.split(b"\n") for field in line.split(b" ")[:1]}
            for other in here:
                if str(other.client).encode() not in alive:
                    self._release(other.owner)

        self._wires.main.send(("CLIENT", "LIST", "ID", *(other.client for other in here)), listed)

    def _release(self, owner: str) -> None:
        logger.info("%s: giving back what link %s held, whose connection is gone", self.name, owner)
        self.submit(consuming.release(owner), _nothing)

    # -- channels ------------------------------------------------------------------------------

    async def open_channel(self) -> RedisChannel:
        """Open a channel; raises ``ChannelLimitExceeded`` when no number is left."""
        self._ending.check()
        await trio.lowlevel.checkpoint()
        self._ending.check()
        number = next((number for number in range(1, CHANNEL_MAX + 1) if number not in self._channels), None)
        if number is None:
            raise ChannelLimitExceeded(
                f"the connection to {self.name} has {CHANNEL_MAX} channels open, which is its limit: close some, "
                "or open another connection"
            )
        channel = self._channels[number] = RedisChannel(self, number)
        return channel

    async def leave(self, channel: RedisChannel) -> None:
        """Give back what a closed channel held; its number is free when the server has done it."""
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        left = trio.Event()
        self.leave_soon(channel, left.set)
        await left.wait()

    def leave_soon(self, channel: RedisChannel, done: Callable[[], None] = lambda: None) -> None:
        """``leave``, without waiting for it."""
        self.settle_now()
        *others, last = channel.names
        for name in others:
            self.submit(consuming.leave(name), self._given_back, lambda _: None)
        self.submit(consuming.leave(last), partial(self._left, channel, done), lambda _: done())

    def _left(self, channel: RedisChannel, done: Callable[[], None], left: Left) -> None:
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]
        self._given_back(left)
        done()

    def _given_back(self, left: Left) -> None:
        self.attend(left.deaths)

    def fresh(self) -> str:
        """A name nobody else has."""
        return uuid4().hex


def _nothing(_: object) -> None:
    """Nobody waits for this reply."""
