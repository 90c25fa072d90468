"""How a thread wakes the runtime: a queue of calls and a pipe to ring with.

trio's own ``run_sync_soon`` does the same at three times the cost (its socket pair is read until
it would block, in an extra tick); a message that travels alone pays that once per hop.
"""

from __future__ import annotations

import os
import posix
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio

from .._logs import get_logger
from .._values.originals import pristine
from ..errors import RuntimeStopped
from .forking import start_afresh_after_fork

if TYPE_CHECKING:
    from threading import RLock

__all__ = ["Doorbell", "Refusable"]

CLOSE_PATIENCE = 0.5
"""Seconds for a write to a pipe that is under way in another thread: it takes a microsecond."""
Call = tuple[Callable[..., object], tuple[object, ...]]
logger = get_logger("kombu_actors.portal")


class Doorbell:
    """Calls from threads, carried out one by one in the trio thread.

    Only the trio thread changes ``_asleep``: whoever posts may be interrupted between any two steps.
    The lock is reentrant: a signal handler or a finalizer may post in the middle of a post.
    """

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._asleep = True
        self._closed = False
        self._get_ident = pristine("_thread").get_ident
        self._answered_by: int | None = None
        self._lock: RLock = pristine("threading").RLock()
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._in, False)
        start_afresh_after_fork(self)

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Have ``fn(*args)`` called in the trio thread soon.  What it raises is logged there.

        Any thread, signal handlers and finalizers included.  Interrupted, it may have been posted or not.

        Raises:
            RuntimeStopped: nobody answers any more.
        """
        try:
            self._calls.append((fn, args))
            # Who falls asleep looks once more afterwards, so a call is never left behind.
            if self._asleep:
                self._ring()
        except BaseException:
            self._ring()  # what was posted must not wait for the next
            raise
        if self._closed:
            self._refuse()
            raise RuntimeStopped("kombu_actors' runtime has ended; make a new Connection")

    def queue(self, fn: Callable[..., object], *args: object) -> None:
        """Have ``fn(*args)`` called before whatever is posted next; the trio thread is not woken for it.

        Raises:
            RuntimeStopped: nobody answers any more.
        """
        self._calls.append((fn, args))
        if self._closed:
            self._refuse()
            raise RuntimeStopped("kombu_actors' runtime has ended; make a new Connection")

    def _ring(self) -> None:
        # The descriptor may be somebody else's once it is closed; who closes it needs no lock against itself, and must
        # not wait for a thread whose signal handler waits for it.
        with nullcontext() if self._answered_by == self._get_ident() else self._lock:
            self._write()

    def _write(self) -> None:
        try:
            # No handler can run between the question and the write.
            if not self._closed:
                posix.write(self._in, b"!")  # not os.write, which eventlet replaces by one that waits
        except BlockingIOError:
            return  # full of rings that were not heard yet

    async def answer(self) -> None:
        """Carry out calls until cancelled, then refuse those that come."""
        calls = self._calls
        self._answered_by = self._get_ident()
        try:
            while True:
                self._asleep = True
                if not calls:
                    await trio.lowlevel.wait_readable(self._out)
                    posix.read(self._out, 4096)
                else:
                    await trio.lowlevel.checkpoint()
                self._asleep = False
                while calls:
                    _carry_out(*calls.popleft())  # and keep nothing of it: who made it may be forgotten
        finally:
            self.close()

    def check_descriptors(self, count: int) -> None:
        """Raise ``OSError`` when the process has not so many file descriptors left: trio would lose some of its own."""
        taken: list[int] = []
        try:
            taken.extend(os.dup(self._out) for _ in range(count))
        finally:
            for descriptor in taken:
                posix.close(descriptor)

    def start_afresh(self) -> None:
        """In a forked child: the answering thread is not here, nor who may have held the lock."""
        self._lock = pristine("threading").RLock()
        self.close()

    def close(self) -> None:
        """Refuse all calls from now on."""
        # Not for ever: the thread that rings just now may be in a signal handler, waiting for us.  It looks again then.
        held = self._lock.acquire(timeout=CLOSE_PATIENCE)
        try:
            if not self._closed:
                self._closed = True
                posix.close(self._in)
                posix.close(self._out)
        finally:
            if held:
                self._lock.release()
        self._refuse()

    def _refuse(self) -> None:
        """Tell waiting jobs that they won't be run; several threads may do so at once."""
        while True:
            try:
                _, args = self._calls.popleft()
            except IndexError:
                return
            for argument in args:
                if isinstance(argument, Refusable):
                    argument.refuse()


class Refusable:
    """A call's argument that must hear when the call won't be made."""

    __slots__ = ()

    def refuse(self) -> None:
        """The runtime has ended."""
        raise NotImplementedError


def _carry_out(fn: Callable[..., object], args: tuple[object, ...]) -> None:
    try:
        fn(*args)
    except Exception:
        logger.exception("%s failed, and nobody waits for it", getattr(fn, "__qualname__", fn))
