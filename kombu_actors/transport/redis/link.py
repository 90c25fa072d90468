"""One live link to Redis: its connections, a lease, and what its channels share.

Commands and replies go over ``main``; what the server says unasked comes over ``listener``, once something is
consumed.  The link lives as long as all of them, and as long as its lease: a server-side deadline that the ``keeper``
moves on.  Whoever finds it overrun gives the link's messages back, and the server refuses every later script of the
link (``FENCED``), so that no message has two owners.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import uuid4

import trio

from ..._logs import get_logger
from ...errors import ConnectionClosed
from ...protocols.numbers import ChannelNumbers
from ...protocols.redis import consuming_calls as consuming
from ...protocols.redis.calls import Call
from ...protocols.redis.consuming_calls import Left
from ...protocols.redis.layout import Layout
from ...protocols.redis.options import RedisOptions
from .._alarm import AlarmWatcher
from .._waiting import OneLife
from .caller import Caller, Terms, Wires
from .channel import RedisChannel
from .dial import OpenedWire
from .errors import ErrorReply, translate
from .fanout import Fanout
from .handover import Handover, carry_out
from .hello import ask_all, check_answered
from .keeper import Keeper
from .listening import Listening
from .publishing import Publishing
from .schedule import Schedule
from .settling import Settlements, Settling
from .wire import parted

if TYPE_CHECKING:
    from .._contract import Upstream

__all__ = ["RedisLink"]

T = TypeVar("T")

logger = get_logger("kombu_actors.redis")

CHANNEL_MAX: Final = 2047
"""RabbitMQ's own default."""


class RedisLink(OneLife):
    """A connection as ``transport._contract.Link`` describes it.  Made by ``RedisTransport.connect``."""

    roles: Sequence[str] = ("keeper",)
    upstream: Upstream | None = None

    def __init__(
        self,
        wires: Wires,
        terms: Terms,
        *,
        server_properties: Mapping[str, object],
        heartbeat: float,
        handover: Handover,
        dial_listener: Callable[[], Awaitable[OpenedWire]],
        lookout: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``heartbeat`` and ``lookout`` are the keeper's, ``handover`` is what a former link left."""
        super().__init__()
        self.name = wires.main.name
        self.terms = terms
        self.server_properties = server_properties
        self.paused = False
        self._channels: dict[int, RedisChannel] = {}
        self._numbers = ChannelNumbers(f"the connection to {self.name}", "close some, or open another connection")
        self._caller = caller = Caller(wires, terms, self._ending, self.kill)
        self._schedule = schedule = Schedule()
        self.settling = Settling(caller, schedule)
        self.publishing = Publishing(caller, self.settling)
        self.listening = Listening(caller, self, schedule, dial_listener)
        self.keeper = Keeper(
            *(caller, schedule, self.settling, self.publishing, self.listening),
            heartbeat=heartbeat,
            lookout=lookout,
            consumed=self._consumed,
        )
        self.fanout = Fanout(self, handover.leftovers)
        self._handover = handover

    def __repr__(self) -> str:
        return f"<RedisLink to {self.name}, {'open' if self.closed is None else 'dead'}>"

    @property
    def layout(self) -> Layout:
        """What things are called in the server."""
        return self.terms.layout

    @property
    def channel_max(self) -> int:
        """As many as RabbitMQ allows."""
        return CHANNEL_MAX

    @property
    def options(self) -> RedisOptions:
        """How the connection uses Redis."""
        return self.terms.options

    # -- life and death ------------------------------------------------------------------------

    def kill(self, reason: BaseException) -> None:
        """Drop all connections at once; every waiter gets ``reason``."""
        if self._ending.reason is None:
            self._ending.happen(reason)
            self.fanout.end()
            for channel in self.channels():
                channel.link_died(reason)
            self._channels.clear()
            self._pass_on(self.settling.end(reason), reason)
            if not isinstance(reason, ConnectionClosed):
                self.fanout.keep_leftovers()
            self._schedule.changed.set()
            self.listening.end()
        for wire in self._caller.wires.all():
            wire.kill(reason)

    def _pass_on(self, decisions: Settlements, reason: BaseException) -> None:
        """What was decided and not carried out is left to the next link; there is none after a goodbye."""
        if not decisions.count:
            return
        if isinstance(reason, ConnectionClosed):
            logger.error(
                "%s: %d decisions (ack, reject, requeue) were not carried out before the connection was closed;"
                " their messages come again",
                *(self.name, decisions.count),
            )
        else:
            self._handover.decisions = decisions

    async def begin(self) -> None:
        """Take the lease, and what is the server's to say, before the wires are served."""
        if self.options.confirm_replicas:
            (waited,) = await ask_all(self._caller.wires.main, [("WAIT", 0, 0)])
            check_answered(waited)
            if isinstance(waited, ErrorReply):
                raise translate(waited.text, "WAIT, which confirm_replicas needs")
        predecessor = self._handover.owner
        if self._handover.decisions.count:
            await carry_out(self._handover, self._caller)
        hello = consuming.hello(self.terms.client_id, self.terms.run_id, self.options.lease, predecessor)
        rights: list[object] = []
        for command in ("SUBSCRIBE", "UNSUBSCRIBE"):  # it isn't needed yet, and refused now or never
            self._caller.wires.main.send((command, self.listening.words), rights.append)
        next_timer = await self._caller.first_call(hello)
        for said in rights:
            if isinstance(said, ErrorReply):
                raise translate(said.text, "SUBSCRIBE")
        self._handover.owner = self.terms.owner
        self.keeper.lease_taken()
        self.settling.attend((), next_timer)

    async def aclose(self) -> None:
        """Say goodbye: what was appended leaves, what is unsettled goes back, then the connections end.

        Bounded by the caller's scope; then, or when cancelled, the server finds out by itself.
        """
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        try:
            async with trio.open_nursery() as nursery:
                if not self.keeper.runs:  # it may have been cancelled already, or not have begun
                    nursery.start_soon(self.keeper.run)
                if self.settling.waits is None:
                    await self.settling.settled()
                self._caller.parting = True
                while not (await self.call(consuming.release(self.terms.owner))).done:
                    pass  # it goes back step by step
                nursery.cancel_scope.cancel()
        finally:
            self.kill(parted(self.name))

    async def run(self, role: str) -> None:
        """Serve the link until it dies, then raise why (return after ``aclose``)."""
        try:
            await self.keeper.run()
        except Exception as error:
            self.kill(error)
            raise
        reason = await self._ending.wait()
        if not isinstance(reason, ConnectionClosed):
            raise reason.with_traceback(None)

    @property
    def sock(self) -> trio.socket.SocketType:
        """The socket over which commands are sent, for its address."""
        return self._caller.wires.main.sock

    @property
    def last_heard(self) -> float:
        """When the server last said anything, in seconds of trio's clock."""
        return min(wire.last_heard for wire in self._caller.wires.all())

    # -- calls ---------------------------------------------------------------------------------

    def submit(
        self, call: Call[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """Call a script; ``done(what it said)`` or ``failed(why not)`` is called once, in the order of the calls."""
        self._caller.submit(call, done, failed)

    async def call(self, call: Call[T], *, undo: Callable[[T], None] | None = None) -> T:
        """Call a script after all that was decided before, and wait for what it says.

        Cancelled, what it says goes to ``undo``.
        """
        self.settling.settle_now()
        return await self._caller.call(call, undo=undo)

    def postpone(self, act: Callable[[], None]) -> None:
        """Have what the server refused, because it takes no writes now, done again with the next beat."""
        self._schedule.postpone(act)

    def flush(self) -> None:
        """Let what was appended leave at once if nothing stands in its way."""
        wires = self._caller.wires
        wires.publisher.flush()
        if wires.publisher is not wires.main:
            wires.main.flush()

    @property
    def blocked(self) -> str | None:
        """The server's reason for taking no publishes (its memory is full, ...); None when it does."""
        return self.publishing.alarm.reason

    def on_blocked(self, watcher: AlarmWatcher) -> Callable[[], None]:
        """Have ``watcher`` told when the server blocks publishes and unblocks them; returns what ends that."""
        return self.publishing.alarm.watch(watcher)

    def neighbours(self) -> Sequence[Upstream]:
        """None: the broker lives elsewhere."""
        return ()

    def pause_reading(self) -> None:
        """Claim nothing until ``resume_reading``; who waits in line makes room for others."""
        self.paused = True
        for channel in self.channels():
            channel.deliveries.look_everywhere()

    def second_reader(self) -> None:
        """None: what the server says is for scripts and lines, not for consumers alone."""

    def read_seldom(self) -> None:
        """Claims bring as much as there is room for, in large pieces already."""

    def resume_reading(self) -> None:
        """Undo ``pause_reading``; a no-op when not paused."""
        if not self.paused:
            return
        self.paused = False
        for channel in self.channels():
            channel.deliveries.look_everywhere()
        self.fanout.pump()

    # -- channels ------------------------------------------------------------------------------

    def channels(self) -> tuple[RedisChannel, ...]:
        """Those that are open, or being closed."""
        return tuple(self._channels.values())

    def _consumed(self) -> set[str]:
        return {queue for channel in self.channels() for queue in channel.consumed}

    async def open_channel(self, *, kept: bool = False) -> RedisChannel:
        """Open a channel; raises ``ChannelLimitExceeded`` when no number is left."""
        self._ending.check()
        await trio.lowlevel.checkpoint()
        if kept and CHANNEL_MAX in self._channels:
            await self._channels[CHANNEL_MAX].aclose()  # it died of an answer just now
        self._ending.check()
        number = self._numbers.take(CHANNEL_MAX, kept=kept)
        channel = self._channels[number] = RedisChannel(self, number)
        return channel

    def leave_soon(self, channel: RedisChannel, done: Callable[[], None]) -> None:
        """Give back what a closed channel held; its number is free, and ``done`` called, when the server has done it.

        What was decided goes first, or it would be given back as well; and what the channel held must not stay
        with nobody while the server takes no writes.
        """
        if channel.names:
            self.settling.after(partial(self._leave, channel, done))
        else:
            self._left(channel, done)

    def _leave(self, channel: RedisChannel, done: Callable[[], None]) -> None:
        *others, last = channel.names
        for name in others:
            self._leave_as(name, lambda: None)
        self._leave_as(last, partial(self._left, channel, done))

    def _leave_as(self, name: str, done: Callable[[], None]) -> None:
        def answered(left: Left) -> None:
            self.settling.attend(left.deaths)
            if left.done:
                done()
            else:
                self._leave_as(name, done)

        self.settling.insist(consuming.leave(name), answered, lambda _: done())

    def _left(self, channel: RedisChannel, done: Callable[[], None]) -> None:
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]
            self._numbers.give_back(channel.number)
        done()

    async def wait_settled(self) -> None:
        """Wait until the server has carried out what was decided about deliveries."""
        await self.settling.settled()

    def fresh(self) -> str:
        """A name nobody else has."""
        return uuid4().hex
