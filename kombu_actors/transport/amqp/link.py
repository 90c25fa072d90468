"""One live AMQP connection: reader, writer and heartbeat around the engine.

All state of the protocol is the engine's, what is to be sent its sender's; this file owns the socket,
the times, and the words for how the connection died.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

import trio

from ..._values.model import Sent
from ...errors import ConnectionClosed, ConnectionLost
from ...protocols.amqp import AMQPEngine, PeerProtocolError, events
from ...protocols.amqp.sender import Lone
from ...protocols.amqp.states import ConnectionState
from .._alarm import Alarm, AlarmWatcher
from .._pulse import keep_pulse
from .._stream import STREAM_ERRORS, ByteStream
from .._waiting import Ending, OneLife, PendingReply
from .channel import AMQPChannel
from .declaring import waiter
from .dispatch import AMQPDispatcher, parted
from .reader import REST, Reader, SecondReader
from .writer import Writer

if TYPE_CHECKING:
    from .._contract import Upstream

__all__ = ["ROLES", "AMQPLink"]

ROLES: Final[Sequence[str]] = ("reader", "writer", "heartbeat")
SILENCE_MAX: Final = 60.0
"""Seconds for which sent bytes may stay unacknowledged by the peer's kernel; generous, because a
busy broker stops reading for a while.  Heartbeats find a dead peer sooner."""
LAST_WORD_TIMEOUT: Final = 1.0
"""Seconds for our last frame to leave a dying connection, and for the broker's reason to be read."""
BLOCKED_GOODBYE_TIMEOUT: Final = 1.0
"""Seconds for close-ok while the broker doesn't read from us: it can't answer what it doesn't read."""


class AMQPLink(OneLife):
    """A connection as ``transport._contract.Link`` describes it.  Made by ``AMQPTransport.connect``."""

    roles = ROLES
    upstream: Upstream | None = None

    def __init__(
        self,
        engine: AMQPEngine,
        stream: ByteStream,
        *,
        name: str,
        goodbye_timeout: float,
        wire: AbstractContextManager[object],
        reading: AbstractContextManager[object],
        backlog: Sequence[events.Event] = (),
    ) -> None:
        super().__init__()
        self.engine = engine
        self.name = name
        self._writer = Writer(engine.sender, stream, wire)
        self.wire = wire
        """Held while someone who sends ends, so that nothing of it is written after what follows its end."""
        self.wake = self._writer.wake
        """Something has been appended to what is to be sent."""
        self._sender = engine.sender
        self._stream = stream
        self._goodbye_timeout = goodbye_timeout
        self._alarm = Alarm()
        self._alarm.watch(self._on_alarm)
        self.confirming: set[AMQPChannel] = set()
        """Those channels that have been told to confirm publishes: of a thousand that consume, none."""
        self._dispatcher = AMQPDispatcher(name, self._alarm)
        self._reader = Reader(stream, engine, self._dispatcher, self._may_rest, reading)
        self._serving: set[str] = set()
        self._parting = False
        stream.limit_silence(self._silence_max)
        self._dispatcher.handle(backlog)

    def __repr__(self) -> str:
        return f"<AMQPLink to {self.name}, {'open' if self.closed is None else 'dead'}>"

    @property
    def server_properties(self) -> Mapping[str, object]:
        """What the broker said about itself."""
        return self.engine.server_properties

    @property
    def channel_max(self) -> int:
        """How many channels have been agreed on."""
        return self.engine.limits.channel_max

    @property
    def _silence_max(self) -> float:
        return max(SILENCE_MAX, 2.0 * self.engine.limits.heartbeat)

    # -- life and death ------------------------------------------------------------------------

    def kill(self, reason: BaseException) -> None:
        """Drop the connection at once; every waiter gets ``reason``."""
        self._writer.close()
        self._end(reason)

    def _end(self, reason: BaseException) -> None:
        if self._ending.reason is not None:
            return
        self._ending.happen(reason)
        self._writer.stop()
        self._reader.gate.nudge()
        self._end_channels(reason)

    def _end_channels(self, reason: BaseException) -> None:
        for pending in self.engine.abandon():
            waiter(pending).fail(reason)
        self._dispatcher.end_channels(reason)

    async def wait_settled(self) -> None:
        """Wait for nothing: the broker takes what was written in its order."""
        await trio.lowlevel.checkpoint()

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
            self.kill(parted(self.name))

    async def _say_goodbye(self) -> None:
        if self.engine.state is ConnectionState.OPEN:
            self.engine.close()
            self._end_channels(parted(self.name))  # whatever answers come now are discarded
        self.wake()
        self._reader.gate.nudge()
        # Whoever served the link may have been cancelled already, or not have begun.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, "reader")
            nursery.start_soon(self._serve, "writer")
            await self._ending.wait()

    def lose(self, text: str, cause: BaseException | None = None) -> None:
        """Drop the connection: the broker can't be reached any more."""
        reason: BaseException = ConnectionLost(f"the connection to {self.name} was lost: {text}")
        reason.__cause__ = cause
        self.kill(parted(self.name) if self._parting else reason)

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

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, role: str) -> None:
        if role not in self._serving:
            self._serving.add(role)
            try:
                await {"reader": self._read, "writer": self._write, "heartbeat": self._beat}[role]()
            finally:
                self._serving.discard(role)

    async def _read(self) -> None:
        while self._ending.reason is None:
            try:
                await self._reader.wait()
                reason = self._reader.take_in()
            except EOFError:
                self._on_end_of_stream()
                return
            except STREAM_ERRORS as error:
                self.lose(str(error) or type(error).__name__, error)
                return
            except PeerProtocolError as error:
                self.engine.give_up(error)
                reason = ConnectionLost(
                    f"the connection to {self.name} was lost: the broker broke the protocol: {error}"
                )
                reason.__cause__ = error
            self._writer.heard()
            if reason is not None:
                # First the end, then the last word: meanwhile nobody may use what the engine has closed.
                self._end(parted(self.name) if self._parting else reason)
                try:
                    await self._writer.say_last_word(LAST_WORD_TIMEOUT)
                finally:
                    self._writer.close()
            elif self._sender.waiting:
                self.wake()

    def _may_rest(self) -> bool:
        if self._ending.reason is not None or self.engine.state is not ConnectionState.OPEN:
            return False
        return not self.engine.awaiting and not any(channel.awaiting_confirms for channel in self.confirming)

    def _on_end_of_stream(self) -> None:
        judged = self.engine.end_of_stream()
        self.lose(judged.text if judged is not None else "the broker closed the socket", judged)

    async def _write(self) -> None:
        try:
            # The broker may owe an answer to what has left: a reader that is paused looks again.
            await self._writer.serve(self._ending, self._reader.gate.nudge)
        except trio.Cancelled:
            if self._writer.in_turn:
                self.lose("sending was cancelled half-way")
            raise
        except STREAM_ERRORS as error:
            # What the broker said before it hung up explains more than our failed send.
            with trio.move_on_after(LAST_WORD_TIMEOUT if "reader" in self._serving else 0):
                await self._ending.wait()
            self.lose(str(error) or type(error).__name__, error)

    def ask(self) -> None:
        """A question has been appended; a reader that is paused has to look for its answer."""
        self._writer.ask()
        self._reader.gate.nudge()

    def mention(self) -> None:
        """Something appended may leave with the next question; now, if a reader that rests is to see its answer."""
        if self._reader.gate.paused:
            self.wake()

    def flush(self) -> None:
        """Send what has gathered without a turn of the writer, as far as the socket takes it at once."""
        self._writer.flush()

    def send_alone(self, lone: Lone, ending: Ending) -> Sent:
        """Send whole frames from any thread, unless something waits or who speaks them has ended.

        While reading is paused nothing goes past the reader, who would have to look for the answer.
        """
        return Sent.NOTHING if self._reader.gate.paused else self._writer.send_alone(lone, ending)

    async def _beat(self) -> None:
        interval = self.engine.limits.heartbeat
        await keep_pulse(self, interval, f"heartbeats every {interval} s")

    def beat(self) -> None:
        """Send a heartbeat, unless the broker is about to hear from us anyway."""
        if not self._sender.busy:
            self.engine.heartbeat()
        self.wake()

    # -- what actors use -----------------------------------------------------------------------

    async def open_channel(self, *, kept: bool = False) -> AMQPChannel:
        """Open a channel.  Cancelled, it is closed again as soon as the broker has opened it.

        Raises:
            ChannelLimitExceeded: no channel number is left; the last one is for who asks for the ``kept`` one.
            ConnectionLost, ConnectionClosed: the link is dead, or dies over it.
        """
        self._ending.check()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._parting:
            raise parted(self.name)
        pending = PendingReply(undo=self._take_back)
        number = self.engine.open_channel(pending, kept=kept)
        channel = self._dispatcher.channels[number] = AMQPChannel(self, number)
        self.ask()
        await pending.wait()
        return channel

    def _take_back(self, opened: events.ChannelOpened) -> None:
        channel = self._dispatcher.channels[opened.channel]
        channel.take_back(self.engine.close_channel)
        channel.die(ConnectionClosed(f"channel {opened.channel} was opened for a call that had been cancelled"))

    @property
    def sock(self) -> trio.socket.SocketType:
        """The socket, for its address."""
        return self._stream.socket

    @property
    def last_heard(self) -> float:
        """When bytes last came, in seconds of trio's clock; now, while nobody looks for any."""
        return trio.current_time() if self._reader.gate.paused else self._reader.heard

    @property
    def last_sent(self) -> float:
        """When bytes last went, in seconds of trio's clock."""
        return self._writer.last_sent

    @property
    def blocked(self) -> str | None:
        """The broker's reason for not reading from publishers; None when it does."""
        return self._alarm.reason

    def on_blocked(self, watcher: AlarmWatcher) -> Callable[[], None]:
        """Have ``watcher`` told when the broker blocks and unblocks; returns what ends that."""
        return self._alarm.watch(watcher)

    def _on_alarm(self, reason: str | None) -> None:
        # A full window is no sign of death while the broker says that it doesn't read.
        self._stream.limit_silence(0 if reason is not None else self._silence_max)

    def neighbours(self) -> Sequence[Upstream]:
        """None: the broker lives elsewhere."""
        return ()

    def pause_reading(self) -> None:
        """Leave what comes in the kernel's buffers, except while the broker owes an answer."""
        self._reader.gate.rest = math.inf
        self.wake()

    def read_seldom(self) -> None:
        """Have the reader rest before each read, except while the broker owes an answer."""
        self._reader.gate.rest = REST
        self.wake()

    def resume_reading(self) -> None:
        """Undo ``pause_reading`` and ``read_seldom``."""
        self._reader.resume()

    @property
    def resting(self) -> bool:
        """Whether what the broker says isn't heard of at once.  Any thread."""
        return self._reader.gate.resting

    def second_reader(self) -> SecondReader | None:
        """See ``Link.second_reader``."""
        with self.wire:
            duplicate = self._stream.duplicate() if self._ending.reason is None else None
        return SecondReader(self, self._reader, duplicate) if duplicate is not None else None
