"""How a thread sleeps until another one wakes it, whatever interrupts it meanwhile.

A signal handler may raise at any bytecode of the main thread, also between a lock's
acquisition and the next line.  So nothing here is taken twice or has to be given back: a bell
serves one wait, ringing it again does no harm, and one that is left hanging is rung for nobody.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque

__all__ = ["Bell", "Sleepers"]


class Bell:
    """One thread waits for it, once; anybody may ring, before that or later."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait.  Any thread, signal handlers and finalizers included."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it was rung before

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is rung, at most ``timeout`` seconds."""
        self._lock.acquire(timeout=-1 if timeout is None else timeout)


class Sleepers:
    """Threads that wait for a change that others make.

    Who sleeps hangs a bell up, looks whether there is something to wait for, waits, and takes the
    bell down.  Who changes something wakes all; each looks again.  So no change is missed.
    """

    __slots__ = ("_bells",)

    def __init__(self) -> None:
        self._bells: deque[Bell] = deque()

    def __bool__(self) -> bool:
        """Whether somebody may be asleep."""
        return bool(self._bells)

    def hang_up(self) -> Bell:
        """A bell that the next ``wake`` rings."""
        bell = Bell()
        self._bells.append(bell)
        return bell

    def take_down(self, bell: Bell) -> None:
        """Its wait is over.  One that an interrupted thread left hanging goes with the next ``wake``."""
        try:
            self._bells.remove(bell)
        except (ValueError, IndexError):
            return  # it has been rung, or others were faster

    def wake(self) -> None:
        """Ring for everybody.  A bell is rung before it is taken down: this, too, may be interrupted."""
        while True:
            try:
                bell = self._bells[0]
            except IndexError:
                return
            bell.ring()
            self.take_down(bell)
