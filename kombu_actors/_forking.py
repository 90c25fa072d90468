"""What a forked child may not go on using: its parent's sockets, locks and runtime.

Only the thread that forked lives on in the child.  Locks that others held stay held, nobody
serves the sockets, and a byte sent over one would be taken for the parent's.  So whatever
can't be shared registers here and starts afresh in the child, before anything else runs there.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Protocol

__all__ = ["Forkable", "SharedLock", "start_afresh_after_fork"]


class Forkable(Protocol):
    """What must not go on in a forked child with what its parent has."""

    def start_afresh(self) -> None:
        """In the child: forget what is the parent's.  Must neither wait nor raise nor send anything."""


_forkable: weakref.WeakSet[Any] = weakref.WeakSet()


def start_afresh_after_fork(thing: Forkable) -> None:
    """Have ``thing.start_afresh()`` called in forked children, for as long as it exists."""
    _forkable.add(thing)


def _start_all_afresh() -> None:
    for thing in list(_forkable):
        thing.start_afresh()


class SharedLock:
    """A reentrant lock for a facade object that several threads share; in a forked child it is free."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        start_afresh_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def start_afresh(self) -> None:
        """Replace it if its holder does not exist here; the thread that forked keeps its own hold."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


os.register_at_fork(after_in_child=_start_all_afresh)
