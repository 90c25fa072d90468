"""How a thread, or a greenlet, sleeps until another thread wakes it, whatever interrupts it meanwhile.

A signal handler may raise at any bytecode of the main thread, also between a lock's
acquisition and the next line.  So nothing here is taken twice or has to be given back: a bell
serves one wait, ringing it again does no harm, and one that is left hanging is rung for nobody.
"""

from __future__ import annotations

import importlib
import os
from collections import deque
from typing import TYPE_CHECKING

from .._values.originals import green, pristine

if TYPE_CHECKING:
    from threading import Lock

__all__ = ["Bell", "Sleepers", "ThreadBell", "new_bell"]

_allocate_lock = pristine("_thread").allocate_lock
"""The interpreter's own, whether the standard library was patched before now or will be."""


def new_bell() -> Bell:
    """A bell for the caller to wait for: its thread sleeps, or, under gevent and eventlet, only its greenlet."""
    library = green()
    return ThreadBell() if library is None else GreenBell(library)


class Bell:
    """Somebody waits for it, once; anybody may ring, before that or later."""

    __slots__ = ()

    def ring(self) -> None:
        """End the wait.  Any thread, signal handlers and finalizers included."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is rung, at most ``timeout`` seconds."""
        raise NotImplementedError


class ThreadBell(Bell):
    """A thread of the operating system waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock: Lock = _allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Let the lock go."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was rung before

    def wait(self, timeout: float | None = None) -> None:
        """Take the lock."""
        self._lock.acquire(timeout=-1 if timeout is None else timeout)


class GreenBell(Bell):
    """A greenlet waits, while its thread goes on with others: by the one thing that hubs and threads both know."""

    __slots__ = ("_descriptor", "_library")

    def __init__(self, library: str) -> None:
        importlib.import_module(f"{__package__}.greenlets").ensure_relay(library)
        self._library = library
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        # Not at the end of the wait: who rings just then holds the bell, and would write into a stranger's file.
        os.close(self._descriptor)

    def ring(self) -> None:
        """Make the descriptor readable."""
        os.eventfd_write(self._descriptor, 1)

    def wait(self, timeout: float | None = None) -> None:
        """Have the hub wait for the descriptor."""
        try:
            if self._library == "gevent":
                importlib.import_module("gevent.socket").wait_read(self._descriptor, timeout)
            else:
                importlib.import_module("eventlet.hubs").trampoline(
                    self._descriptor, read=True, timeout=timeout, timeout_exc=TimeoutError
                )
        except TimeoutError:
            return


class Sleepers(deque[Bell]):
    """Threads that wait for a change that others make: their bells; true while somebody may be asleep.

    Who sleeps hangs a bell up, looks whether there is something to wait for, waits, and takes the
    bell down.  Who changes something wakes all; each looks again.  So no change is missed.
    """

    __slots__ = ()

    def hang_up(self) -> Bell:
        """A bell that the next ``wake`` rings."""
        bell = new_bell()
        self.append(bell)
        return bell

    def take_down(self, bell: Bell) -> None:
        """Its wait is over.  One that an interrupted thread left hanging goes with the next ``wake``."""
        try:
            self.remove(bell)
        except (ValueError, IndexError):
            return  # it has been rung, or others were faster

    def wake(self) -> None:
        """Ring for everybody.  A bell is rung before it is taken down: this, too, may be interrupted."""
        while True:
            try:
                bell = self[0]
            except IndexError:
                return
            bell.ring()
            self.take_down(bell)
