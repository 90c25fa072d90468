"""A block of trio code, held open in the runtime for threads: a client, a server."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import trio

from .._logs import get_logger
from ..errors import ConnectionClosed, DeadlineExceeded, RuntimeStopped
from . import exiting
from .leases import lease, release
from .portal import check_interpreter

__all__ = ["Stay"]

T = TypeVar("T", covariant=True)
R = TypeVar("R")
logger = get_logger("kombu_actors.portal")


class Stay(Generic[T]):
    """One run of ``async with opening() as value``, which needs the runtime as long.

    ``goodbye`` are the seconds that leaving the block may take, as far as ``end`` waits for it.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[T]], goodbye: float) -> None:
        check_interpreter()
        self.entered = False
        """Whether the block was entered, and has not been left."""
        self._pid = os.getpid()
        self._opening = opening
        self._goodbye = goodbye
        self._values: list[T] = []
        self._failure: BaseException | None = None
        self._settled = trio.Event()
        """Set when it is known whether the block could be entered."""
        self._leave = trio.Event()
        self._over = trio.Event()
        self.portal = lease(self)
        _stays.add(self)

    # Any thread

    @property
    def usable(self) -> bool:
        """Whether calls can be made in it."""
        return self.entered and not self.portal.ended and self._pid == os.getpid()

    def begin(self) -> None:
        """Enter the block; raises what it raises."""
        self.portal.call(self._start, timeout=None)

    def call(self, fn: Callable[[T], Awaitable[R]]) -> R:
        """Await ``fn(value)`` in the runtime, with a deadline of its own; ``ConnectionClosed`` outside the block."""
        result: R = self.portal.call(self._make, fn, timeout=None)
        return result

    def end(self) -> None:
        """Leave the block, give the runtime back, and wait for both."""
        self.abandon()
        try:
            self.portal.call(self._over.wait, timeout=self._goodbye)
        except (RuntimeStopped, DeadlineExceeded) as error:
            logger.debug("nobody heard of the end of what stayed in the runtime: %r", error)
        release(self)
        self.portal.join()

    def abandon(self) -> None:
        """Have the block left, without waiting; then the runtime is given back."""
        if self._pid != os.getpid():
            return
        try:
            self.portal.post(self._leave.set)
        except RuntimeStopped:
            release(self, wait=False)

    # The runtime

    async def _start(self) -> None:
        self.portal.spawn(self._run)
        await self._settled.wait()
        if not self.entered:
            raise self._failure or ConnectionClosed("it was closed while it was opened")

    async def _run(self) -> None:
        try:
            async with self._opening() as value:
                self._values.append(value)
                self.entered = True
                self._settled.set()
                await self._leave.wait()
        except Exception as error:  # whatever it is, it ends this one and no other; who calls is told
            self._failure = error
        finally:
            self.entered = False
            self._values.clear()
            self._settled.set()
            self._over.set()
            release(self, wait=False)

    async def _make(self, fn: Callable[[T], Awaitable[R]]) -> R:
        if not self.entered:
            raise self._failure or ConnectionClosed("it was closed before this call began")
        return await fn(self._values[0])


_stays: weakref.WeakSet[Stay[object]] = weakref.WeakSet()


def _end_at_exit() -> None:
    """What was begun in a block is finished, and it is left in order."""
    for stay in list(_stays):
        if stay.usable:
            stay.end()


exiting.drains.append(_end_at_exit)
