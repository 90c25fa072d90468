"""One connection to a broker in this process, as ``transport._contract.Link`` describes it.

Everything the broker has to say passes through the ``dispatcher`` in order, like frames through a
reader: no sink, confirm or reply is ever called from inside ``publish`` or ``ack``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio
from amqp.exceptions import AMQPError

from ...errors import ConnectionClosed, ConnectionLost
from ...protocols import virtual
from .._alarm import Alarm, AlarmWatcher
from .._contract import Upstream
from .._numbers import free_number
from .._waiting import OneLife, Outbox, PendingReply
from .channel import MemoryChannel, Subscription

if TYPE_CHECKING:
    from .broker import MemoryBroker

__all__ = ["ROLES", "MemoryLink"]

R = TypeVar("R")

ROLES: Final[Sequence[str]] = ("dispatcher",)
BLOCKED_GOODBYE_TIMEOUT: Final = 1.0
"""Seconds for close-ok while the broker doesn't read from us: it can't answer what it doesn't read."""


@attrs.define
class Dispatcher:
    """What the one task that serves a link is at."""

    serving: bool = False
    leaving: bool = False
    """``aclose`` waits for the broker's goodbye."""
    paused: bool = False
    wakes_at: float = inf
    """Until when it sleeps, for whoever plans something earlier."""


class MemoryLink(OneLife):
    """Made by ``MemoryTransport.connect``; all methods belong to the trio run that made it."""

    roles = ROLES
    upstream: Upstream | None = None
    server_properties: Mapping[str, Any] = {
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
        self.dispatcher = Dispatcher()
        self.body_max = body_max
        """Bytes of the largest message body that is taken."""
        self._broker = broker
        self._token = trio.lowlevel.current_trio_token()
        self._limits = (channel_max, goodbye_timeout)
        self._outbox = Outbox()
        self._alarm = Alarm()
        self._channels: dict[int, MemoryChannel | None] = {}
        """By number; None for one whose opening is under way."""
        self._awaiting: set[PendingReply] = set()
        self._held: deque[Callable[[], Any]] = deque()
        """What we would have written to a socket that the broker does not read; the caller bounds it."""

    def __repr__(self) -> str:
        return f"<MemoryLink to {self.name}, {'open' if self.closed is None else 'dead'}>"

    # -- life and death ------------------------------------------------------------------------

    def kill(self, reason: BaseException) -> None:
        """Drop the connection at once; every waiter gets ``reason``."""
        if self._ending.reason is not None:
            return
        self._broker.detach(self)  # first: when the run has died, nothing after it can be done
        self._ending.happen(reason)
        for channel in self._channels.values():
            if channel is not None:
                channel.die(reason)
        self._channels.clear()
        self._held.clear()
        for pending in self._awaiting:
            pending.fail(reason)
        self._awaiting.clear()
        self.wake()

    def kill_soon(self, reason: BaseException) -> None:
        """``kill`` from any thread."""
        try:
            self._token.run_sync_soon(self.kill, reason)
        except trio.RunFinishedError:
            return  # nobody is left to be told

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
            with trio.move_on_after(BLOCKED_GOODBYE_TIMEOUT if self.session.blocked else self._limits[1]):
                self.send(self._say_goodbye, closed)
                async with trio.open_nursery() as nursery:
                    if not self.dispatcher.serving:  # whoever served the link may have been cancelled already
                        nursery.start_soon(self._dispatch)
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
            await self._dispatch()
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
        number = free_number(self._channels, self._limits[0], kept, self.name)
        self._channels[number] = None

        def take_back(engine: virtual.Channel) -> None:
            self.send(engine.close)
            self._channels.pop(number, None)

        engine = await self.call(partial(self.session.open_channel, number), undo=take_back)
        channel = self._channels[number] = MemoryChannel(self, engine)
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
        self._awaiting.add(pending)
        self.send(self._serve, serve, pending)
        self.look_for_answers()
        reply: R = await pending.wait()
        return reply

    def look_for_answers(self) -> None:
        """Have the dispatcher look for what the broker owes us, though it is paused."""
        if self.dispatcher.paused:
            self.wake()

    def _may_pause(self) -> bool:
        awaiting = self._awaiting or any(channel and channel.awaiting_confirms for channel in self._channels.values())
        return not awaiting and not self.dispatcher.leaving

    def forget(self, channel: MemoryChannel) -> None:
        """Take note that the broker has forgotten a channel: its number is free."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    def send(self, command: Callable[..., object], *args: object, **kwargs: object) -> None:
        """Have the broker carry out a command, after those it has not read yet."""
        if self._held or self.session.blocked:
            self._held.append(partial(command, *args, **kwargs))
        else:
            self._broker.act(self, command, *args, **kwargs)

    def fresh_name(self, prefix: str) -> str:
        """A name nobody else has."""
        return self._broker.fresh_name(prefix)

    def _serve(self, serve: Callable[[], object], pending: PendingReply) -> None:
        # The reply takes its place first: what the request sets off must be heard after it.
        result: list[Any] = []
        refusal: list[AMQPError] = []

        def settle() -> None:
            self._awaiting.discard(pending)
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
    def sock(self) -> Any:
        """AttributeError: there is none."""
        raise AttributeError("a connection to a broker in memory has no socket")

    @property
    def last_heard(self) -> float:
        """Now: there is no wire to be cut without a word."""
        return trio.current_time()

    @property
    def blocked(self) -> str | None:
        """The broker's reason for not reading from publishers; None when it does."""
        return self._alarm.reason

    def on_blocked(self, watcher: AlarmWatcher) -> Callable[[], None]:
        """Have ``watcher`` told when the broker blocks and unblocks; returns what ends that."""
        return self._alarm.watch(watcher)

    def neighbours(self) -> Sequence[Upstream]:
        """Those of the other connections to this broker's virtual host."""
        return [link.upstream for link in self._broker.links_beside(self) if link.upstream is not None]

    def pause_reading(self) -> None:
        """Take nothing more in until ``resume_reading``, except while a request waits for its answer."""
        self.dispatcher.paused = True

    def resume_reading(self) -> None:
        """Undo ``pause_reading``; a no-op when not paused."""
        self.dispatcher.paused = False
        self.wake()

    # -- the dispatcher ------------------------------------------------------------------------

    def wake(self) -> None:
        """Let the dispatcher look again; in our own run only."""
        self._outbox.wake()

    def notify(self, acting: MemoryLink | None) -> bool:
        """Tell the dispatcher from any thread that there is news; False when its run has ended.

        ``acting`` is the link whose call made the news, if it was one.
        """
        if acting is not None and acting._token is self._token:
            self._outbox.wake()
            return True
        try:
            self._token.run_sync_soon(self.wake, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    @trio.lowlevel.enable_ki_protection
    async def _dispatch(self) -> None:
        session = self.session
        while self._ending.reason is None:
            if self._held and not session.blocked:
                self._broker.act(self, self._held.popleft())
            elif session.effects and not (self.dispatcher.paused and self._may_pause()):
                for effect in self._broker.collect(self):
                    _PERFORM[type(effect)](self, effect)
                await trio.lowlevel.checkpoint()
            else:
                await self._sleep()

    async def _sleep(self) -> None:
        self.dispatcher.wakes_at = deadline = self.session.broker.next_deadline
        if deadline == inf:
            await self._outbox.wait()
            return
        with trio.move_on_after(max(0.0, deadline - self._broker.clock())):
            await self._outbox.wait()
        self._broker.tick()

    def _on_delivered(self, effect: virtual.Delivered) -> None:
        subscription: Subscription = effect.consumer.receiver
        channel = subscription.channel
        if channel.closed is None:
            batch, body_max = effect.batch, self.body_max
            if any(len(delivery.body) > body_max for delivery in batch):
                queue = effect.consumer.queue.spec.name
                batch = channel.without_oversized(batch, queue, no_ack=effect.consumer.no_ack)
            if batch:
                subscription.sink(batch)

    def _on_confirmed(self, effect: virtual.Confirmed) -> None:
        channel = self._channels.get(effect.channel.number)
        if channel is not None:
            channel.hear_confirm(effect)

    def _on_returned(self, effect: virtual.MessageReturned) -> None:
        channel = self._channels.get(effect.channel.number)
        if channel is not None:
            channel.hear_return(effect)

    def _on_replied(self, effect: virtual.Replied) -> None:
        effect.call()

    def _on_cancelled(self, effect: virtual.ConsumerCancelled) -> None:
        subscription: Subscription = effect.consumer.receiver
        if subscription.channel.closed is None:
            subscription.on_cancel()

    def _on_channel_closed(self, effect: virtual.ChannelClosed) -> None:
        channel = self._channels.get(effect.channel.number)
        if channel is not None:
            channel.die(effect.error)
            self.forget(channel)

    def _on_closed(self, effect: virtual.SessionClosed) -> None:
        error = effect.error
        reason = ConnectionLost(f"the connection to {self.name} was lost: {error.reply_code} {error.reply_text}")
        reason.__cause__ = error
        self.kill(reason)

    def _on_blocked(self, effect: virtual.SessionBlocked) -> None:
        self._alarm.change(effect.reason)


_PERFORM: Final[dict[type, Callable[[MemoryLink, Any], None]]] = {
    virtual.Delivered: MemoryLink._on_delivered,
    virtual.Confirmed: MemoryLink._on_confirmed,
    virtual.MessageReturned: MemoryLink._on_returned,
    virtual.Replied: MemoryLink._on_replied,
    virtual.ConsumerCancelled: MemoryLink._on_cancelled,
    virtual.ChannelClosed: MemoryLink._on_channel_closed,
    virtual.SessionClosed: MemoryLink._on_closed,
    virtual.SessionBlocked: MemoryLink._on_blocked,
}
