"""Who reads a connection's socket: its own reader, in the link's thread, and a second one in a thread of the program's.

An event loop of a busy program's is awake anyway.  To have it woken by another thread for each message costs more than
to read the message, and the two threads take the interpreter from each other.  So it may read itself: whole deliveries,
which most of what comes is.  All else it leaves in the socket, and tells the link's own reader, which rests meanwhile.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

import trio

from ...protocols.amqp import AMQPEngine, events
from .._waiting import ReadGate

if TYPE_CHECKING:
    from .._stream import ByteStream, Duplicate
    from .dispatch import AMQPDispatcher
    from .link import AMQPLink

__all__ = ["REST", "Reader", "SecondReader"]

REST: Final = 0.05
"""Seconds for which the reader rests between two reads while nobody waits for what comes, or somebody else reads it: a
piece for each, and not one for each message.  So short that the kernel's buffers hold it, and that what this reader
alone understands is soon heard of, the end of the connection for one, should the other be busy."""
SEEN_MAX: Final = 2 * 131072
"""Bytes that a second reader looks at in one go: enough for a message in one frame, as large as those mostly may be."""


class Reader:
    """The link's own reader.  It rests while there is no room for what comes, and while a second one reads.

    ``lock`` is held from the reading of bytes until what they say has been handed over: so it happens in their order.
    """

    def __init__(
        self,
        stream: ByteStream,
        engine: AMQPEngine,
        dispatcher: AMQPDispatcher,
        may_rest: Callable[[], bool],
        lock: AbstractContextManager[object],
    ) -> None:
        self.lock = lock
        self.engine = engine
        self.dispatcher = dispatcher
        self.gate = ReadGate()
        self.heard = trio.current_time()
        """When bytes last came, as far as this one knows: less than a rest too early while a second one reads."""
        self.relieved = False
        """Whether a second reader has read since this one last looked; set by that one's thread."""
        self._stream = stream
        self._may_rest = may_rest

    async def wait(self) -> None:
        """Rest as long as that is wanted, then wait for bytes."""
        # Who is asked whether it may looks at all channels.
        while (self.relieved or self.gate.paused) and self._may_rest() and (seconds := self._rest()):
            if not await self.gate.wait(seconds) and not self.relieved:
                break
        await self._stream.wait_bytes()
        self.heard = trio.current_time()

    def take_in(self) -> BaseException | None:
        """Hand over what has come; returns why the connection is over, if the broker has said so.

        Raises:
            EOFError: the peer has closed.
            OSError, ClosedResourceError: the socket is broken, or closed.
            PeerProtocolError: what has come is wrong.
        """
        with self.lock:
            data = self._stream.take()
            if data is None:
                return None  # the second reader was faster
            if not data:
                raise EOFError
            return self.dispatcher.handle(self.engine.receive(data))

    def _rest(self) -> float:
        if not self.relieved:
            return self.gate.rest
        self.relieved = False
        self.heard = trio.current_time()
        return max(self.gate.rest, REST)

    def resume(self) -> None:
        """Read as usual again."""
        if self.gate.paused:
            self.heard = trio.current_time()
        self.gate.resume()


class SecondReader:
    """Hands over whole deliveries in the thread that calls it, whenever ``socket`` has something to read.

    What it reads is all of a message or nothing, and nothing of what follows something that isn't a message.
    """

    def __init__(self, link: AMQPLink, reader: Reader, duplicate: Duplicate) -> None:
        self.socket = duplicate
        """Its own, the link's once more: the number stays its own when the link closes the other one."""
        self.over = False
        """Whether it will read nothing any more."""
        self._link = link
        self._reader = reader
        self._seen = mmap.mmap(-1, SEEN_MAX, flags=mmap.MAP_PRIVATE)
        self._handing_over = False

    def read(self) -> bool:
        """Read; False when the link's own reader is to ``look``: there is something else, or the end."""
        with self._reader.lock:
            try:
                count = self.socket.recv_into(self._seen, SEEN_MAX, socket.MSG_PEEK)
            except BlockingIOError:
                return True  # the other one was faster
            except OSError:
                count = 0
            self.over = not count or self._link.closed is not None
            self._reader.relieved = not self.over and self._hand_over(self._seen[:count])
            return self._reader.relieved

    def _hand_over(self, data: bytes) -> bool:
        """Take the deliveries at the beginning of what is there, and hand them over; False when it begins otherwise."""
        happened, size = self._reader.engine.whole_deliveries(data)
        channels = self._reader.dispatcher.channels
        takers = []
        for event in happened:
            assert isinstance(event, events.MessageDelivered)
            channel = channels.get(event.channel)
            if channel is None or not channel.consumes(event.consumer_tag):
                return False
            takers.append((channel, event))
        if not takers:
            return False
        self._handing_over = True
        try:
            self.socket.recv_into(self._seen, size)
        except OSError:  # it was reset since it was looked at
            self.over, self._handing_over = True, False
            return False
        for channel, event in takers:
            channel.deliver(event)  # to nobody if the channel died this moment: the broker delivers it again
        self._handing_over = False
        return True

    def look(self) -> None:
        """Have the link's own reader see what there is.  In the link's thread."""
        self._reader.gate.nudge()

    def spoil(self) -> None:
        """Its thread was interrupted, perhaps between reading and handing over.  In the link's thread."""
        if self._handing_over:
            self._link.lose("an event loop was interrupted while it read; what is not settled is delivered again")
