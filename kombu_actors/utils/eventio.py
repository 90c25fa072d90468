"""Waiting for files: readable, writable, broken."""

from __future__ import annotations

import errno
import math
import select
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

from .._values.originals import green
from .compat import fileno

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["ERR", "READ", "SELECT_BAD_FD", "WRITE", "Poller", "poll"]

READ: Final = 0x001
"""There is something to read, or the other side has ended."""
WRITE: Final = 0x004
"""There is room to write."""
ERR: Final = 0x008 | 0x010
"""Broken, or hung up."""
SELECT_BAD_FD: Final = frozenset({errno.EBADF})
"""Error numbers of ``select`` for a descriptor that was closed."""


class Poller(Protocol):
    """What ``poll()`` makes."""

    def register(self, fd: FileDescriptorLike, events: int) -> int:
        """Watch a file for these events; registering it again changes them.  Raises ``OSError`` for a closed one."""

    def unregister(self, fd: FileDescriptorLike) -> None:
        """Watch it no longer; nothing happens where it wasn't."""

    def poll(self, timeout: float | None) -> Iterable[tuple[int, int]]:
        """Wait for events, at most ``timeout`` seconds (``None``: for ever); nothing when a signal came."""

    def close(self) -> None:
        """Watch nothing any more."""


class _Epoll:
    """By ``epoll``: as cheap with a thousand files as with one."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        """Numbers that were registered; where the file behind one was closed, the kernel watches it no more."""

    def register(self, fd: FileDescriptorLike, events: int) -> int:
        number = fileno(fd)
        if number in self._watched:
            try:
                self._epoll.modify(number, events)
            except FileNotFoundError:  # it is another file by now
                self._epoll.register(number, events)
        else:
            self._epoll.register(number, events)
            self._watched.add(number)
        return number

    def unregister(self, fd: FileDescriptorLike) -> None:
        if fd not in self._watched:
            return  # Celery asks at every turn, and each system call lets other threads have the interpreter
        self._watched.discard(fd)
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError, KeyError, TypeError):
            return  # closed, or not there

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        try:
            return self._epoll.poll(-1 if timeout is None else max(timeout, 0))
        except InterruptedError:
            return []

    def close(self) -> None:
        self._epoll.close()


class _Select:
    """By ``select``, which gevent and eventlet replace by one that waits in their hub."""

    def __init__(self) -> None:
        self._events: dict[int, int] = {}

    def register(self, fd: FileDescriptorLike, events: int) -> int:
        number = fileno(fd)
        select.select([number], [], [], 0)  # says whether it is open
        self._events[number] = events
        return number

    def unregister(self, fd: FileDescriptorLike) -> None:
        self._events.pop(fileno(fd), None)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        watched = self._events
        read, write, err = ([fd for fd, events in watched.items() if events & one] for one in (READ, WRITE, ERR))
        try:
            ready = select.select(read, write, err, None if timeout is None or math.isinf(timeout) else max(timeout, 0))
        except InterruptedError:
            return []
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in SELECT_BAD_FD:
                raise
            self._forget_closed()
            return []
        found: dict[int, int] = {}
        for descriptors, event in zip(ready, (READ, WRITE, ERR), strict=True):
            for fd in descriptors:
                found[fd] = found.get(fd, 0) | event
        return list(found.items())

    def _forget_closed(self) -> None:
        for fd in list(self._events):
            try:
                select.select([fd], [], [], 0)
            except (OSError, ValueError):
                self._events.pop(fd, None)

    def close(self) -> None:
        self._events.clear()


def poll() -> Poller:
    """Make something to wait for files with: the cheapest that works in this process."""
    return _Epoll() if green() is None and hasattr(select, "epoll") else _Select()
