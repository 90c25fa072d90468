"""What a forked child may not go on using: its parent's sockets, locks and runtime.

Only the thread that forked lives on in the child.  Locks that others held stay held, nobody
serves the sockets, and a byte sent over one would be taken for the parent's.  So whatever
can't be shared registers here and starts afresh in the child, before anything else runs there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from itertools import count
from typing import Protocol, TypeVar

__all__ = ["Forkable", "SharedLock", "register_after_fork", "start_afresh_after_fork"]

T = TypeVar("T")


class Forkable(Protocol):
    """What must not go on in a forked child with what its parent has."""

    def start_afresh(self) -> None:
        """In the child: forget what is the parent's.  Must neither wait nor raise nor send anything."""


_forkable: weakref.WeakSet[Forkable] = weakref.WeakSet()


def start_afresh_after_fork(thing: Forkable) -> None:
    """Have ``thing.start_afresh()`` called in forked children, for as long as it exists."""
    _forkable.add(thing)


def _start_all_afresh() -> None:
    for thing in list(_forkable):
        thing.start_afresh()
    for (_, call), registered in sorted(_calls.items(), key=lambda item: item[0][0]):
        call(registered)


_calls: weakref.WeakValueDictionary[tuple[int, Callable[..., object]], object] = weakref.WeakValueDictionary()
_numbers = count()


def register_after_fork(obj: T, func: Callable[[T], object]) -> None:
    """Have ``func(obj)`` called in forked children, for as long as ``obj`` exists, in the order of registration.

    Whoever forks, and however: multiprocessing, Celery's billiard, or ``os.fork()`` itself.  What was registered by the
    program is called after our own things have started afresh.
    """
    _calls[next(_numbers), func] = obj


class SharedLock:
    """A reentrant lock for a facade object that several threads share; in a forked child it is free.

    It is taken as ``with lock.held``: a ``with`` that calls ``__enter__`` of Python's can be interrupted between the
    lock's acquisition and the block, and nobody would release it.
    """

    __slots__ = ("__weakref__", "held")

    def __init__(self) -> None:
        self.held = threading.RLock()
        start_afresh_after_fork(self)

    def start_afresh(self) -> None:
        """Replace it if its holder does not exist here; the thread that forked keeps its own hold."""
        if self.held.acquire(blocking=False):
            self.held.release()
        else:
            self.held = threading.RLock()


os.register_at_fork(after_in_child=_start_all_afresh)
