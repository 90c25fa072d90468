"""One RESP3 connection: commands out, replies back to whoever asked, in order.

The wire knows nothing of queues.  Its owner runs ``run_reader`` and ``run_writer`` (and ``run_pulse``), each in
one task, and hears of everything else by callbacks, which the reader calls in the order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

import hiredis
import trio

from ...errors import ConnectionClosed, ConnectionLost
from .._pulse import keep_pulse
from .._stream import STREAM_ERRORS, ByteStream
from .._waiting import OneLife, Outbox
from .errors import ErrorReply
from .replies import BadReply, ReplyReader

__all__ = ["Argument", "OnReply", "RedisWire", "pack", "parted"]

Argument = str | bytes | int | float | memoryview
"""What a command is made of; text goes as UTF-8."""
OnReply = Callable[[Any], None]
"""Takes a reply: bytes, int, list, None, ..., an ``ErrorReply``, or the wire's death; must not block or raise."""

SILENCE_MAX: Final = 60.0
"""Seconds for which sent bytes may stay unacknowledged by the peer's kernel; the pulse finds a dead peer sooner."""
LAST_WORD_TIMEOUT: Final = 1.0
"""Seconds for what the server said before it hung up to be read, when sending fails."""

pack: Final = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)
"""A command as bytes, for ``send_packed``; ``TypeError`` for what can't be an argument."""

_SUBSCRIBING: Final[dict[object, bytes]] = {
    spelling: kind
    for kind in (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe")
    for spelling in (kind, kind.upper(), kind.decode(), kind.decode().upper())
}
"""Commands that RESP3 answers with one push for each channel instead of a reply."""


class _Confirmations:
    """What answers a subscribing command: so many pushes of its kind, or one error."""

    def __init__(self, kind: bytes, left: int, on_reply: OnReply) -> None:
        self.kind = kind
        self._left = left
        self._on_reply = on_reply

    def confirmed(self) -> bool:
        """One push came; whether it was the last."""
        self._left -= 1
        return self._left == 0

    def __call__(self, reply: object) -> None:
        self._on_reply(reply)


class RedisWire(OneLife):
    """A connection after its handshake, or during it.  One life: when it is dead, make another.

    Args:
        name: the peer as errors name it, ``host:port``.
        body_max: bytes of the largest message body expected; bounds what is taken in (``ReplyReader``).

    What is gathered to be sent has no bound of its own: senders never wait here, so each bounds what it has
    under way (a publisher by its window, a consumer by its prefetch, a caller by waiting for its reply).
    A server that stops reading is given up after ``limit_silence``, or by the pulse.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        name: str,
        body_max: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.on_push: Callable[[list[Any]], None] = _ignore
        """Takes every push that doesn't confirm a subscription: ``[b"invalidate", [key]]``, ``[b"message", ...]``."""
        self.gather: Callable[[], None] = _nothing
        """Called before bytes are sent: the owner may append what it has kept until now."""
        self.last_heard = self.last_sent = trio.current_time()
        """When bytes last came, and went, in seconds of trio's (monotonic) clock."""
        self._stream = stream
        self._reader = ReplyReader(body_max)
        self._gathered: list[bytes] = []
        self._waiting: deque[OnReply] = deque()
        self._outbox = Outbox()
        self._serving: set[str] = set()
        stream.limit_silence(SILENCE_MAX)

    def __repr__(self) -> str:
        return f"<RedisWire to {self.name}, {'open' if self.closed is None else 'dead'}>"

    # -- life and death ------------------------------------------------------------------------

    @property
    def sending(self) -> bool:
        """Whether bytes are leaving or wait to leave."""
        return self._outbox.sending or bool(self._gathered)

    def kill(self, reason: BaseException) -> None:
        """Drop the connection at once; every waiter gets ``reason``.  A no-op when already dead."""
        self._stream.close()
        if self._ending.reason is not None:
            return
        self._ending.happen(reason)
        self._gathered.clear()
        self._outbox.wake()
        while self._waiting:
            self._waiting.popleft()(reason)

    @property
    def sock(self) -> trio.socket.SocketType:
        """The socket, for its address."""
        return self._stream.socket

    def limit_silence(self, seconds: float) -> None:
        """Give up when sent bytes stay unacknowledged by the peer's kernel for ``seconds``; 0 for its default."""
        self._stream.limit_silence(seconds)

    def beat(self) -> None:
        """Send a PING, unless the server is about to hear from us anyway."""
        if not self.sending:
            self.send(("PING",), _whatever)

    def lose(self, text: str, cause: BaseException | None = None) -> None:
        """``kill`` it for what the world did: ``ConnectionLost`` naming the peer."""
        reason = ConnectionLost(f"the connection to {self.name} was lost: {text}")
        reason.__cause__ = cause
        self.kill(reason)

    # -- commands ------------------------------------------------------------------------------

    def send(self, args: tuple[Argument, ...], on_reply: OnReply) -> None:
        """Append one command.  ``on_reply`` is called once: with its reply, or with why there will be none.

        Commands that subscribe are answered with None, once all their channels are confirmed.

        Raises:
            TypeError: an argument is none; nothing was appended.
            ConnectionLost, ConnectionClosed: the wire is dead; ``on_reply`` won't be called.
        """
        data = pack(args)
        kind = _SUBSCRIBING.get(args[0])
        if kind is not None:
            if len(args) == 1:
                raise ValueError(f"{kind.decode()} needs its channels named: how many answers come depends on it")
            on_reply = _Confirmations(kind, len(args) - 1, on_reply)
        self.send_packed(data, on_reply)

    def send_packed(self, data: bytes, on_reply: OnReply) -> None:
        """``send`` one command that is packed already; not for those that subscribe."""
        if self._ending.reason is not None:
            raise self._ending.reason.with_traceback(None)
        self._gathered.append(data)
        self._waiting.append(on_reply)
        self._outbox.wake()

    def wake(self) -> None:
        """Have the writer ``gather`` and send."""
        self._outbox.wake()

    def flush(self) -> None:
        """Send what has gathered without a turn of the writer, as far as the socket takes it at once."""
        if self._ending.reason is None:
            self.gather()
        if self._outbox.sending or not self._gathered or "writer" not in self._serving:
            return
        data = b"".join(self._gathered)
        sent = self._stream.send_nowait(data)
        self._gathered[:] = [data[sent:]] if sent < len(data) else []
        self.last_sent = trio.current_time()
        if self._gathered:
            self._outbox.wake()

    # -- roles ---------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run_reader(self) -> None:
        """Take replies in until the wire is dead.  Cancelled, it may be run again: nothing is lost."""
        await self._serve("reader", self._read)

    @trio.lowlevel.enable_ki_protection
    async def run_writer(self) -> None:
        """Send what is gathered until the wire is dead.  Cancelled while bytes leave, the wire dies."""
        await self._serve("writer", self._write)

    @trio.lowlevel.enable_ki_protection
    async def run_pulse(self, interval: float) -> None:
        """Ask for a sign of life after each ``interval / 2`` seconds without sending, until the wire is dead.

        It dies when nothing came for two intervals, in which this process wasn't stalled itself.
        0 asks for nothing and gives up never.
        """
        await self._serve("pulse", partial(keep_pulse, self, interval, f"a PING every {interval / 2:g} s"))

    async def _serve(self, role: str, act: Callable[[], Awaitable[object]]) -> None:
        if role in self._serving:
            raise RuntimeError(f"the {role} of {self!r} is running already")
        self._serving.add(role)
        try:
            await act()
        except Exception as error:
            self.kill(error)  # a callback's mistake
            raise
        finally:
            self._serving.discard(role)

    async def converse(self, *, owed: int = 0) -> None:
        """Send what was appended and take in what comes until no more replies are ``owed``, or the wire is dead.

        For its first words, before anybody serves it: three tasks less.  Cancelled while bytes leave, the wire dies.
        """
        self._serving.add("writer")
        try:
            while len(self._waiting) > owed and self._ending.reason is None:
                self.flush()
                if self._gathered:
                    await self._send_gathered()
                else:
                    await self._receive()
        finally:
            self._serving.discard("writer")

    async def _read(self) -> None:
        while self._ending.reason is None:
            await self._receive()

    async def _receive(self) -> None:
        try:
            data = await self._stream.receive()
        except STREAM_ERRORS as error:
            self.lose(str(error) or type(error).__name__, error)
            return
        if not data:
            self.lose("the server closed it")
            return
        self.last_heard = trio.current_time()
        try:
            self._take(data)
        except BadReply as error:
            self.lose(f"the server broke the protocol: {error}", error)

    def _take(self, data: bytes) -> None:
        waiting = self._waiting
        for reply in self._reader.replies(data):
            if type(reply) is hiredis.PushNotification:
                self._pushed(reply)
            elif not waiting:
                raise BadReply(f"a reply that nobody waits for{_unasked(reply)}")
            elif type(waiting[0]) is _Confirmations and not isinstance(reply, ErrorReply):
                raise BadReply("a reply to a command that is answered with pushes")
            else:
                waiting.popleft()(reply)
            if self._ending.reason is not None:
                return

    def _pushed(self, push: list[object]) -> None:
        first = self._waiting[0] if self._waiting else None
        if type(first) is _Confirmations and push and push[0] == first.kind:
            if first.confirmed():
                self._waiting.popleft()(None)
        else:
            self.on_push(push)

    async def _write(self) -> None:
        while self._ending.reason is None:
            self.flush()
            if self._gathered:
                await self._send_gathered()
            else:
                await self._outbox.wait()

    async def _send_gathered(self) -> None:
        self._outbox.sending = True
        data = b"".join(self._gathered)
        self._gathered.clear()
        try:
            await self._stream.send_all(data)
        except STREAM_ERRORS as error:
            # What the server said before it hung up explains more than our failed send.
            with trio.move_on_after(LAST_WORD_TIMEOUT):
                await (self._ending.wait() if "reader" in self._serving else self._read())
            self.lose(str(error) or type(error).__name__, error)
        except trio.Cancelled:
            # Half a command may have left: whatever came next would be taken for its rest.
            self.lose("sending was cancelled half-way")
            raise
        finally:
            self._outbox.sending = False
        self.last_sent = trio.current_time()


def _ignore(_: object) -> None:
    pass


def _nothing() -> None:
    pass


def _unasked(reply: object) -> str:
    """What may be shown of it: other kinds of servers repeat what they were told, and that may be a password."""
    if not isinstance(reply, ErrorReply):
        return ""
    return f": {reply.text if reply.text.startswith(_UNASKED) else reply.code}"


_UNASKED: Final = ("DENIED ", "ERR max number of clients", "ERR Protocol error")
"""What a Redis server says without being asked."""


def parted(name: str) -> ConnectionClosed:
    """The reason of a connection that this side closed."""
    return ConnectionClosed(f"you closed the connection to {name}")


def _whatever(_: object) -> None:
    """Any answer is a sign of life, a refusal too."""
