"""One live AMQP connection: reader, writer and heartbeat around the engine.

All state of the protocol is the engine's; this file owns the socket, the times, and the words
for how the connection died.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio
from amqp import exceptions as amqp_errors

from ..errors import ConnectionClosed, ConnectionLost
from ..protocols.amqp import AMQPEngine, PeerProtocolError, events
from ..protocols.amqp.heartbeats import Verdict, pulse
from ..protocols.amqp.states import ConnectionState
from ._amqp_channel import AMQPChannel
from ._amqp_waiting import Ending, Outbox, PendingReply, ReadGate
from ._stream import STREAM_ERRORS, ByteStream

__all__ = ["ROLES", "AMQPLink"]

ROLES: Final[Sequence[str]] = ("reader", "writer", "heartbeat")
SILENCE_MAX: Final = 60.0
"""Seconds for which sent bytes may stay unacknowledged by the peer's kernel; generous, because a
busy broker stops reading for a while.  Heartbeats find a dead peer sooner."""
LAST_WORD_TIMEOUT: Final = 1.0
"""Seconds for our last frame to leave a dying connection, and for the broker's reason to be read."""
BLOCKED_GOODBYE_TIMEOUT: Final = 1.0
"""Seconds for close-ok while the broker doesn't read from us: it can't answer what it doesn't read."""


class Signs:
    """Signs of life: when bytes last went each way, and for how long nobody looked since."""

    def __init__(self) -> None:
        self.sent = self.received = trio.current_time()
        self.stalled = 0.0

    def arrived(self) -> None:
        """Bytes came."""
        self.received, self.stalled = trio.current_time(), 0.0

    def left(self) -> None:
        """Bytes went."""
        self.sent = trio.current_time()


class Alarm:
    """Whether the broker has stopped reading from publishers, and who wants to know."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.watchers: list[Callable[[str | None], None]] = []

    def change(self, reason: str | None) -> None:
        """Set and tell, if it is news."""
        if reason != self.reason:
            self.reason = reason
            for watcher in list(self.watchers):
                watcher(reason)


class AMQPLink:
    """A connection as ``transport._link.Link`` describes it.  Made by ``AMQPTransport.connect``."""

    roles = ROLES

    def __init__(
        self,
        engine: AMQPEngine,
        stream: ByteStream,
        *,
        name: str,
        goodbye_timeout: float,
        backlog: Sequence[events.Event] = (),
    ) -> None:
        self.engine = engine
        self.name = name
        self.outbox = Outbox()
        self._stream = stream
        self._goodbye_timeout = goodbye_timeout
        self._signs = Signs()
        self._gate = ReadGate()
        self._alarm = Alarm()
        self._ending = Ending()
        self._channels: dict[int, AMQPChannel] = {}
        self._serving: set[str] = set()
        self._parting = False
        stream.limit_silence(self._silence_max)
        self._handle(backlog)

    def __repr__(self) -> str:
        return f"<AMQPLink to {self.name}, {'open' if self.closed is None else 'dead'}>"

    @property
    def server_properties(self) -> Mapping[str, Any]:
        """What the broker said about itself."""
        return self.engine.server_properties

    @property
    def is_rabbitmq(self) -> bool:
        """Whether the broker says it is RabbitMQ."""
        return bool(self.server_properties.get("product") == "RabbitMQ")

    @property
    def _silence_max(self) -> float:
        return max(SILENCE_MAX, 2.0 * self.engine.limits.heartbeat)

    # -- life and death ------------------------------------------------------------------------

    @property
    def closed(self) -> BaseException | None:
        """Why the link is dead; None while it lives."""
        return self._ending.reason

    async def wait_closed(self) -> BaseException:
        """Wait until the link is dead and say why."""
        return await self._ending.wait()

    def kill(self, reason: BaseException) -> None:
        """Drop the connection at once; every waiter gets ``reason``."""
        if self._ending.reason is not None:
            return
        self._ending.happen(reason)
        self._stream.close()
        self.outbox.wake()
        self._gate.nudge()
        for pending in self.engine.abandon():
            pending.fail(reason)
        for channel in self._channels.values():
            channel.die(reason)
            channel.forget()
        self._channels.clear()

    async def aclose(self) -> None:
        """Say goodbye and close; safe in any state, a no-op when dead.

        Bounded by the caller's scope and by the timeout of connecting, shorter while the broker
        blocks us; then, or when cancelled, the socket is closed without an answer.
        """
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        self._parting = True
        timeout = self._goodbye_timeout if self._alarm.reason is None else BLOCKED_GOODBYE_TIMEOUT
        try:
            with trio.move_on_after(timeout):
                await self._say_goodbye()
        finally:
            self.kill(self._parted())

    async def _say_goodbye(self) -> None:
        if self.engine.state is ConnectionState.OPEN:
            self.engine.close()
        self.outbox.wake()
        self._gate.nudge()
        # Whoever served the link may have been cancelled already, or not have begun.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, "reader")
            nursery.start_soon(self._serve, "writer")
            await self._ending.wait()

    def _lose(self, text: str, cause: BaseException | None = None) -> None:
        reason: BaseException = ConnectionLost(f"the connection to {self.name} was lost: {text}")
        reason.__cause__ = cause
        self.kill(self._parted() if self._parting else reason)

    def _parted(self) -> BaseException:
        return ConnectionClosed(f"you closed the connection to {self.name}")

    # -- roles ---------------------------------------------------------------------------------

    async def run(self, role: str) -> None:
        """Serve one role until the link dies, then raise why (return after ``aclose``).

        Cancelled, the link lives on, served by nobody, until the role is run again or ``aclose``.
        """
        if role not in ROLES:
            raise ValueError(f"an AMQP link has the roles {', '.join(ROLES)}, not {role!r}")
        try:
            await self._serve(role)
        except Exception as error:
            self.kill(error)
            raise
        reason = await self._ending.wait()
        if not isinstance(reason, ConnectionClosed):
            raise reason.with_traceback(None)

    async def _serve(self, role: str) -> None:
        if role not in self._serving:
            self._serving.add(role)
            try:
                await {"reader": self._read, "writer": self._write, "heartbeat": self._beat}[role]()
            finally:
                self._serving.discard(role)

    async def _read(self) -> None:
        while self._ending.reason is None:
            while self._gate.paused and self._may_pause():
                await self._gate.wait()
                self._signs.arrived()  # nobody looked, so nobody can tell
            try:
                data = await self._stream.receive()
            except STREAM_ERRORS as error:
                self._lose(str(error) or type(error).__name__, error)
                return
            if not data:
                self._on_end_of_stream()
                return
            self._signs.arrived()
            try:
                reason = self._handle(self.engine.receive(data))
            except PeerProtocolError as error:
                reason = ConnectionLost(
                    f"the connection to {self.name} was lost: the broker broke the protocol: {error}"
                )
                reason.__cause__ = error
            if reason is not None:
                await self._last_word()
                self.kill(reason)
            elif self.engine.outgoing:
                self.outbox.wake()

    def _may_pause(self) -> bool:
        state = self.engine.state
        return self._ending.reason is None and state is ConnectionState.OPEN and not self.engine.awaiting

    def _on_end_of_stream(self) -> None:
        judged = self.engine.end_of_stream()
        self._lose(judged.text if judged is not None else "the broker closed the socket", judged)

    async def _write(self) -> None:
        while self._ending.reason is None:
            if not self.engine.outgoing:
                await self.outbox.wait()
                continue
            try:
                await self._send_gathered()
            except STREAM_ERRORS as error:
                # What the broker said before it hung up explains more than our failed send.
                with trio.move_on_after(LAST_WORD_TIMEOUT if "reader" in self._serving else 0):
                    await self._ending.wait()
                self._lose(str(error) or type(error).__name__, error)
            self._gate.nudge()

    async def _send_gathered(self) -> None:
        self.outbox.sending = True
        try:
            await self._stream.send_all(self.engine.take_outgoing())
        except trio.Cancelled:
            # Half a frame may have left: whatever came next would be taken for its rest.
            self._lose("sending was cancelled half-way")
            raise
        finally:
            self.outbox.sending = False
        self._signs.left()

    async def _last_word(self) -> None:
        """Let what the engine has to say leave before the socket is closed."""
        if not self.outbox.sending and self.engine.outgoing:
            with trio.move_on_after(LAST_WORD_TIMEOUT):
                try:
                    await self._send_gathered()
                except STREAM_ERRORS:
                    return  # the peer hung up first; the reason is already known

    async def _beat(self) -> None:
        interval = self.engine.limits.heartbeat
        if not interval:
            await self._ending.wait()
            return
        signs = self._signs
        looked = False
        while self._ending.reason is None:
            now = trio.current_time()
            if self._gate.paused:
                signs.arrived()
            verdict, until = pulse(
                now, interval=interval, sent=signs.sent, received=signs.received, stalled=signs.stalled
            )
            if verdict is Verdict.DEAD:
                if looked:
                    self._lose(f"no byte came for {now - signs.received:.1f} s, with heartbeats every {interval} s")
                    return
                # The reader gets a turn: bytes may be waiting that nobody had time to take.
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
                looked = True
                continue
            looked = False
            if verdict is Verdict.BEAT and not self.outbox.sending and not self.engine.outgoing:
                self.engine.heartbeat()
                self.outbox.wake()
            with trio.move_on_at(until):
                await self._ending.wait()
            signs.stalled += max(0.0, trio.current_time() - until)

    # -- what actors use -----------------------------------------------------------------------

    async def open_channel(self) -> AMQPChannel:
        """Open a channel.  Cancelled, it is closed again as soon as the broker has opened it.

        Raises:
            ChannelLimitExceeded: no channel number is left.
            ConnectionLost, ConnectionClosed: the link is dead, or dies over it.
        """
        self._ending.check()
        await trio.lowlevel.checkpoint_if_cancelled()
        pending = PendingReply(undo=self._take_back)
        number = self.engine.open_channel(pending)
        channel = self._channels[number] = AMQPChannel(self, number)
        self.outbox.wake()
        await pending.wait()
        return channel

    def _take_back(self, opened: events.ChannelOpened) -> None:
        reason = ConnectionClosed(f"channel {opened.channel} was opened for a call that had been cancelled")
        self.engine.close_channel(opened.channel)
        self._channels[opened.channel].die(reason)
        self.outbox.wake()

    @property
    def blocked(self) -> str | None:
        """The broker's reason for not reading from publishers; None when it does."""
        return self._alarm.reason

    def on_blocked(self, watcher: Callable[[str | None], None]) -> None:
        """Call ``watcher(reason)`` when the broker blocks, ``watcher(None)`` when it unblocks."""
        self._alarm.watchers.append(watcher)

    def pause_reading(self) -> None:
        """Leave what comes in the kernel's buffers, except while the broker owes an answer."""
        self._gate.paused = True

    def resume_reading(self) -> None:
        """Undo ``pause_reading``."""
        self._gate.paused = False
        self._gate.nudge()

    # -- what the engine reports ---------------------------------------------------------------

    def _handle(self, happened: Sequence[events.Event]) -> BaseException | None:
        """Dispatch events in order; return why the connection is over, or None."""
        for event in happened:
            reason = _HANDLERS[type(event)](self, event)
            if reason is not None:
                return reason
        return None

    def _on_delivered(self, event: events.Delivered) -> None:
        self._channels[event.channel].on_delivered(event)

    def _on_confirmed(self, event: events.Confirmed) -> None:
        self._channels[event.channel].on_confirmed(event)

    def _on_reply(self, event: events.Replied | events.Got | events.ChannelOpened) -> None:
        event.token.resolve(event)

    def _on_returned(self, event: events.MessageReturned) -> None:
        self._channels[event.channel].on_returned(event.returned)

    def _on_consumer_cancelled(self, event: events.ConsumerCancelled) -> None:
        self._channels[event.channel].on_cancelled(event.consumer_tag)

    def _on_channel_closed_by_peer(self, event: events.ChannelClosedByPeer) -> None:
        reason = amqp_errors.error_for_code(event.code, event.text, event.method, amqp_errors.ChannelError)
        self._bury(event.channel, reason, event.abandoned)
        self._channels.pop(event.channel).forget()

    def _on_channel_aborted(self, event: events.ChannelAborted) -> None:
        reason = amqp_errors.error_for_code(event.code, event.text, (60, 60), amqp_errors.ChannelError)
        self._bury(event.channel, reason, event.abandoned)

    def _on_channel_closed(self, event: events.ChannelClosed) -> None:
        self._channels.pop(event.channel).forget()

    def _bury(self, number: int, reason: BaseException, abandoned: Sequence[PendingReply]) -> None:
        for pending in abandoned:
            pending.fail(reason)
        self._channels[number].die(reason)

    def _on_flow(self, event: events.FlowChanged) -> None:
        self._alarm.change(None if event.active else f"channel.flow on channel {event.channel}")

    def _on_blocked(self, event: events.ConnectionBlocked) -> None:
        # A full window is no sign of death now: the broker has said that it won't read.
        self._stream.limit_silence(0)
        self._alarm.change(event.reason)

    def _on_unblocked(self, event: events.ConnectionUnblocked) -> None:
        self._stream.limit_silence(self._silence_max)
        self._alarm.change(None)

    def _on_closed_by_peer(self, event: events.ConnectionClosedByPeer) -> BaseException:
        cause = amqp_errors.error_for_code(event.code, event.text, event.method, amqp_errors.ConnectionError)
        reason = ConnectionLost(f"the connection to {self.name} was lost: {event.code} {event.text}")
        reason.__cause__ = cause
        return reason

    def _on_goodbye_answered(self, event: events.ConnectionClosed) -> BaseException:
        return self._parted()


_HANDLERS: Final[dict[type, Callable[[AMQPLink, Any], BaseException | None]]] = {
    events.Delivered: AMQPLink._on_delivered,
    events.Confirmed: AMQPLink._on_confirmed,
    events.Replied: AMQPLink._on_reply,
    events.Got: AMQPLink._on_reply,
    events.ChannelOpened: AMQPLink._on_reply,
    events.MessageReturned: AMQPLink._on_returned,
    events.ConsumerCancelled: AMQPLink._on_consumer_cancelled,
    events.ChannelClosedByPeer: AMQPLink._on_channel_closed_by_peer,
    events.ChannelAborted: AMQPLink._on_channel_aborted,
    events.ChannelClosed: AMQPLink._on_channel_closed,
    events.FlowChanged: AMQPLink._on_flow,
    events.ConnectionBlocked: AMQPLink._on_blocked,
    events.ConnectionUnblocked: AMQPLink._on_unblocked,
    events.ConnectionClosedByPeer: AMQPLink._on_closed_by_peer,
    events.ConnectionClosed: AMQPLink._on_goodbye_answered,
}
