"""One connection to a broker in this process, as ``transport._contract.Link`` describes it.

Everything the broker has to say passes through the ``dispatcher`` in order, like frames through a
reader: no sink, confirm or reply is ever called from inside ``publish`` or ``ack``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import trio
from amqp.exceptions import AMQPError

from ...errors import ConnectionClosed
from ...protocols import virtual
from ...protocols.numbers import ChannelNumbers
from .._alarm import Alarm, AlarmWatcher
from .._waiting import OneLife, PendingReply
from .channel import MemoryChannel
from .dispatch import MemoryDispatcher

if TYPE_CHECKING:
    from .._contract import Upstream
    from .broker import MemoryBroker

__all__ = ["ROLES", "MemoryLink"]

R = TypeVar("R")

ROLES: Final[Sequence[str]] = ("dispatcher",)
BLOCKED_GOODBYE_TIMEOUT: Final = 1.0
"""Seconds for close-ok while the broker doesn't read from us: it can't answer what it doesn't read."""


class MemoryLink(OneLife):
    """Made by ``MemoryTransport.connect``; all methods belong to the trio run that made it."""

    roles = ROLES
    upstream: Upstream | None = None
    server_properties: Mapping[str, object] = {
        "product": "kombu_actors memory broker",
        "capabilities": {
            "publisher_confirms": True,
            "consumer_cancel_notify": True,
            "exchange_exchange_bindings": True,
            "basic.nack": True,
            "connection.blocked": True,
            "per_consumer_qos": True,
            "consumer_priorities": True,
        },
    }

    def __init__(
        self,
        broker: MemoryBroker,
        host: virtual.VirtualBroker,
        *,
        user: str,
        channel_max: int,
        body_max: int,
        goodbye_timeout: float,
    ) -> None:
        super().__init__()
        self.name = f"memory://{broker.name}"
        self.session = host.open_session(user, self)
        self.dispatcher = MemoryDispatcher(self, broker)
        self.body_max = body_max
        """Bytes of the largest message body that is taken."""
        self._broker = broker
        self._token = trio.lowlevel.current_trio_token()
        self.channel_max = channel_max
        self._goodbye_timeout = goodbye_timeout
        self.alarm = Alarm()
        """Whether the broker has stopped reading from us."""
        self.channels: dict[int, MemoryChannel | None] = {}
        """By number; None for one whose opening is under way."""
        self._numbers = ChannelNumbers(f"the connection to {self.name}", "close some, or open another connection")
        self._awaiting: set[Callable[[BaseException], None]] = set()
        """Whom to tell why there will be no answer."""

    def __repr__(self) -> str:
        return f"<MemoryLink to {self.name}, {'open' if self.closed is None else 'dead'}>"

    # -- life and death ------------------------------------------------------------------------

    def kill(self, reason: BaseException) -> None:
        """Drop the connection at once; every waiter gets ``reason``."""
        if self._ending.reason is not None:
            return
        self._broker.detach(self)  # first: when the run has died, nothing after it can be done
        self._ending.happen(reason)
        for channel in self.channels.values():
            if channel is not None:
                channel.die(reason)
        self.channels.clear()
        self.dispatcher.held.clear()
        for fail in self._awaiting:
            fail(reason)
        self._awaiting.clear()
        self.wake()

    def kill_soon(self, reason: BaseException) -> None:
        """``kill`` from any thread."""
        try:
            self._token.run_sync_soon(self.kill, reason)
        except trio.RunFinishedError:
            return  # nobody is left to be told

    async def wait_settled(self) -> None:
        """Wait for nothing: the broker has taken it."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Say goodbye and close; safe in any state, a no-op when dead.

        What the broker had to say before the goodbye is still heard.  Bounded by the caller's scope
        and by the timeout of connecting, shorter while the broker blocks us.
        """
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        closed = ConnectionClosed(f"you closed the connection to {self.name}")
        self.dispatcher.leaving = True
        self.wake()
        try:
            with trio.move_on_after(BLOCKED_GOODBYE_TIMEOUT if self.session.blocked else self._goodbye_timeout):
                self.send(self._say_goodbye, closed)
                async with trio.open_nursery() as nursery:
                    if not self.dispatcher.serving:  # whoever served the link may have been cancelled already
                        nursery.start_soon(self.dispatcher.run)
                    await self._ending.wait()
        finally:
            self.kill(closed)

    def _say_goodbye(self, closed: ConnectionClosed) -> None:
        self.session.close()
        self.session.emit(virtual.Replied(partial(self.kill, closed)))

    async def run(self, role: str) -> None:
        """Serve ``dispatcher`` until the link dies, then raise why (return after ``aclose``).

        Cancelled, the link lives on, served by nobody, until the role is run again or ``aclose``.
        """
        if role not in ROLES:
            raise ValueError(f"a memory link has the role 'dispatcher', not {role!r}")
        self.dispatcher.serving = True
        try:
            await self.dispatcher.run()
        except Exception as error:
            self.kill(error)
            raise
        finally:
            self.dispatcher.serving = False
        reason = await self._ending.wait()
        if not isinstance(reason, ConnectionClosed):
            raise reason.with_traceback(None)

    # -- what we want of the broker ------------------------------------------------------------

    async def open_channel(self, *, kept: bool = False) -> MemoryChannel:
        """Open a channel; raises ``ChannelLimitExceeded`` when no number is left.

        Cancelled, the channel is closed again.
        """
        self._ending.check()
        await trio.lowlevel.checkpoint_if_cancelled()
        number = self._numbers.take(self.channel_max, kept=kept)
        self.channels[number] = None

        def take_back(engine: virtual.Channel) -> None:
            self.send(engine.close)
            self.channels.pop(number, None)
            self._numbers.give_back(number)

        engine = await self.call(partial(self.session.open_channel, number), undo=take_back)
        channel = self.channels[number] = MemoryChannel(self, engine)
        return channel

    async def call(
        self,
        serve: Callable[[], R],
        *,
        applied: Callable[[R], None] | None = None,
        undo: Callable[[R], None] | None = None,
    ) -> R:
        """Have the broker serve a request, and wait until the dispatcher comes to its reply.

        ``applied`` is called at that moment; should the caller have been cancelled, ``undo`` instead.
        """
        pending = PendingReply(applied=applied, undo=undo)
        self._awaiting.add(pending.fail)
        self.send(self._serve, serve, pending)
        self.look_for_answers()
        return await pending.wait()

    def look_for_answers(self) -> None:
        """Have the dispatcher look for what the broker owes us, though it is paused."""
        if self.dispatcher.paused:
            self.wake()

    def may_pause(self) -> bool:
        """Whether nobody waits for what a paused dispatcher would leave where it is."""
        awaiting = self._awaiting or any(channel and channel.awaiting_confirms for channel in self.channels.values())
        return not awaiting and not self.dispatcher.leaving

    def forget(self, channel: MemoryChannel) -> None:
        """Take note that the broker has forgotten a channel: its number is free."""
        if self.channels.get(channel.number) is channel:
            del self.channels[channel.number]
            self._numbers.give_back(channel.number)

    def send(self, command: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Have the broker carry out a command, after those it has not read yet."""
        if self.dispatcher.held or self.session.blocked:
            self.dispatcher.held.append(partial(command, *args, **kwargs))
        else:
            self._broker.act(self, command, *args, **kwargs)

    def fresh_name(self, prefix: str) -> str:
        """A name nobody else has."""
        return self._broker.fresh_name(prefix)

    def _serve(self, serve: Callable[[], R], pending: PendingReply[R]) -> None:
        # The reply takes its place first: what the request sets off must be heard after it.
        result: list[R] = []
        refusal: list[AMQPError] = []

        def settle() -> None:
            self._awaiting.discard(pending.fail)
            if refusal:
                pending.fail(refusal[0])
            else:
                pending.resolve(result[0])

        self.session.emit(virtual.Replied(settle))
        try:
            result.append(serve())
        except AMQPError as error:
            refusal.append(error)

    # -- blocking and pausing ------------------------------------------------------------------

    @property
    def sock(self) -> NoReturn:
        """AttributeError: there is none."""
        raise AttributeError("a connection to a broker in memory has no socket")

    @property
    def last_heard(self) -> float:
        """Now: there is no wire to be cut without a word."""
        return trio.current_time()

    @property
    def blocked(self) -> str | None:
        """The broker's reason for not reading from publishers; None when it does."""
        return self.alarm.reason

    def on_blocked(self, watcher: AlarmWatcher) -> Callable[[], None]:
        """Have ``watcher`` told when the broker blocks and unblocks; returns what ends that."""
        return self.alarm.watch(watcher)

    def neighbours(self) -> Sequence[Upstream]:
        """Those of the other connections to this broker's virtual host."""
        return [link.upstream for link in self._broker.links_beside(self) if link.upstream is not None]

    def flush(self) -> None:
        """Nothing waits here: what was published is with the broker."""

    def pause_reading(self) -> None:
        """Take nothing more in until ``resume_reading``, except while a request waits for its answer."""
        self.dispatcher.paused = True

    def second_reader(self) -> None:
        """None: there are no bytes."""

    def read_seldom(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Undo ``pause_reading``; a no-op when not paused."""
        self.dispatcher.paused = False
        self.wake()

    # -- the dispatcher ------------------------------------------------------------------------

    def wake(self) -> None:
        """Let the dispatcher look again; in our own run only."""
        self.dispatcher.outbox.wake()

    def notify(self, acting: MemoryLink | None) -> bool:
        """Tell the dispatcher from any thread that there is news; False when its run has ended.

        ``acting`` is the link whose call made the news, if it was one.
        """
        if acting is not None and acting._token is self._token:
            self.dispatcher.outbox.wake()
            return True
        try:
            self._token.run_sync_soon(self.wake, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True
