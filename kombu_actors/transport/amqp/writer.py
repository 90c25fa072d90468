"""Carries out what the sender decides: the writer's turns, and threads that send past it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import trio

from ..._values.model import Sent
from ...protocols.amqp.sender import Lone, Sender
from .._stream import STREAM_ERRORS, ByteStream
from .._waiting import Ending, Outbox

__all__ = ["Writer"]

FEW = 3
"""Questions that leave one by one: that for a channel, and what is asked of it at once."""


class Writer:
    """The only one who writes to a connection's stream, and who closes it.  ``lock`` is the sender's."""

    def __init__(self, sender: Sender, stream: ByteStream, lock: AbstractContextManager[object]) -> None:
        self.lock = lock
        """Held while bytes leave without waiting, while a turn is taken, and while someone who sends ends."""
        self.last_sent = trio.current_time()
        """When bytes last went."""
        self._asked = 0
        """How many questions have been asked since the broker was last heard."""
        self._sender = sender
        self._stream = stream
        self._outbox = Outbox()
        self.wake = self._outbox.wake
        """There is something to send, or the end has come."""

    async def serve(self, ending: Ending, before_each: Callable[[], object]) -> None:
        """Send what waits, turn by turn, until the end; raises what the stream does.

        Cancelled in the middle of a turn, it may leave half a frame sent: the connection is lost then.
        """
        self._sender.man(True)
        try:
            while ending.reason is None:
                before_each()
                self.flush()
                if self._sender.may_take:
                    await self.send_waiting()
                else:
                    await self._outbox.wait()
        finally:
            self._sender.man(False)

    @property
    def in_turn(self) -> bool:
        """Whether a turn is under way: cut short it leaves half a frame, for whose rest all else would be taken."""
        return self._sender.sending

    async def send_waiting(self) -> None:
        """Take one turn, if something waits.  It ends when all of it has left, and with an error never."""
        if not self._sender.may_take:
            return
        with self.lock:
            data = self._sender.take()
        await self._stream.send_all(data)
        self._sender.sent()
        self.last_sent = trio.current_time()

    def flush(self) -> None:
        """Send what waits without a turn of the task, as far as the socket takes it at once."""
        with self.lock:
            if not (self._sender.manned and self._sender.may_take):
                return
            if self._stream.plain:
                self._send_at_once()
        if self._sender.waiting:
            self.wake()

    def _send_at_once(self) -> None:
        data, counts = self._sender.take(), [0]
        try:
            self._stream.send_counted(data, counts)
        finally:
            self._sender.sent(data[counts[-1] :])
        if counts[-1]:
            self.last_sent = trio.current_time()

    def ask(self) -> None:
        """A question to the broker has been appended: send it at once if few are asked, with the others if not.

        A program that asks one thing after the other saves the writer's turn; of a thousand channels that ask at the
        same time all but the first few leave in one piece.
        """
        self._asked += 1
        if self._asked > FEW:
            self.wake()
        else:
            self.flush()

    def heard(self) -> None:
        """The broker has said something: what is asked now may be what follows from that."""
        self._asked = 0

    def send_alone(self, lone: Lone, ending: Ending) -> Sent:
        """Send whole frames from any thread, unless something waits or who speaks them has ended."""
        with self.lock:
            if ending.reason is None and self._sender.begin(lone):
                self._stream.send_counted(lone.frames, lone.counts)
        if not lone.counts:
            return Sent.NOTHING
        return Sent.PART if lone.torn else Sent.ALL

    async def say_last_word(self, timeout: float) -> None:
        """Let what the engine has to say leave before the socket is closed."""
        with trio.move_on_after(timeout):
            try:
                await self.send_waiting()
            except STREAM_ERRORS:
                return  # the peer hung up first; the reason is already known

    def stop(self) -> None:
        """The connection is over: no thread may send any more; the last word is the connection's own."""
        self._sender.man(False)
        self.wake()

    def close(self) -> None:
        """Close the stream: its descriptor may be somebody else's in the next moment."""
        with self.lock:
            self._stream.close()
