"""An asyncio loop as the place of a program: its calls are made in the runtime, and what comes is told in batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from .._bridge.looping import LoopHandle
from .._native.backlog import EACH
from .._native.block import Block
from .._native.delivered import Delivered, Settles
from ..errors import RuntimeDied, RuntimeStopped
from .lots import LoopLot

__all__ = ["LoopPlace"]

T = TypeVar("T")
SHARE = 8
"""The runtime hears of buffers that were emptied each time that it is so many parts of what they may hold."""


class LoopWire:
    """A channel, settled by the tasks of a loop; what they decide leaves together."""

    __slots__ = ("_handle", "_wire")

    def __init__(self, handle: LoopHandle, wire: Settles) -> None:
        self._handle = handle
        self._wire = wire

    @property
    def closed(self) -> BaseException | None:
        """Why it is dead, as far as this thread knows; None while it lives."""
        return self._wire.closed or self._handle.over

    def ack(self, tag: int) -> None:
        """Have it acknowledged, if the channel lives then."""
        self._decide(_ack, tag)

    def reject(self, tag: int) -> None:
        """Have it dead-lettered, if the channel lives then."""
        self._decide(_reject, tag)

    def nack(self, tag: int, *, requeue: bool = True) -> None:
        """Have it put back, if the channel lives then."""
        self._decide(_nack, tag, requeue)

    def _decide(self, settle: Callable[..., None], *args: object) -> None:
        handle = self._handle
        try:
            handle.to_runtime.post(settle, self._wire, *args)
        except RuntimeStopped:
            if not handle.portal.ended:  # this is a forked child
                raise
            # The loop has yet to hear of it: what is settled now is lost as in a session that is lost right then.


def _ack(wire: Settles, tag: int) -> None:
    if wire.closed is None:
        wire.ack(tag)


def _reject(wire: Settles, tag: int) -> None:
    if wire.closed is None:
        wire.reject(tag)


def _nack(wire: Settles, tag: int, requeue: bool) -> None:
    if wire.closed is None:
        wire.nack(tag, requeue=requeue)


class LoopPlace:
    """The ``Place`` of programs that run in asyncio.  ``block`` is its counterpart in the runtime."""

    def __init__(self, handle: LoopHandle, block: Block, buffer_max: int) -> None:
        self.tell = handle.to_loop.post
        self._handle = handle
        self._block = block
        self._step = buffer_max // SHARE
        self._messages = 0
        """Those that the runtime has not heard of."""
        self._bytes = 0
        self._closed = False

    def check_open(self) -> None:
        """Raise ``ConnectionClosed``, or why supervision gave up, once the block is being left."""
        if self._closed:
            raise self.reason()

    def reason(self) -> BaseException:
        """What calls after the end are told."""
        over = self._handle.over
        return over if isinstance(over, RuntimeDied) else self._block.reason()

    async def call(self, what: str, timeout: float, fn: Callable[[], Awaitable[T]]) -> T:
        """Await a call in the runtime, within its deadline there."""
        return await self.run(self._block.call, what, timeout, fn)

    async def run(self, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Await in the runtime what has a deadline of its own."""
        self.check_open()
        try:
            return await self._handle.call(fn, *args, unwanted=_give_back)
        except RuntimeStopped:
            self.check_open()
            raise

    async def finish(self, fn: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Await a call in the runtime for so long at most, whoever is cancelled."""
        with suppress(RuntimeStopped):  # and with it whatever was to be finished
            await self._handle.call(self._block.finish, fn, seconds, shield=True)

    def settling(self, wire: Settles) -> Settles:
        """The channel, for this loop's tasks."""
        return LoopWire(self._handle, wire)

    def shrank(self, messages: int, body_bytes: int) -> None:
        """Tell the runtime now and then: it only needs to know when reading is paused."""
        self._messages += messages
        self._bytes += body_bytes
        if self._messages * EACH + self._bytes >= self._step:
            with suppress(RuntimeStopped):  # then it reads nothing more
                self._handle.to_runtime.post(self._block.shrank, self._messages, self._bytes)
            self._messages = self._bytes = 0

    def lot(self) -> LoopLot:
        """For tasks of this loop."""
        return LoopLot(self._handle.loop)

    def close(self) -> None:
        """Refuse calls from now on, and end those under way."""
        self._closed = True
        with suppress(RuntimeStopped):
            self._handle.to_runtime.post(self._block.close)


def _give_back(result: object) -> None:
    """Nobody takes what a cancelled call has brought: a message is somebody else's."""
    if isinstance(result, Delivered) and not result.settled:
        result.requeue()
