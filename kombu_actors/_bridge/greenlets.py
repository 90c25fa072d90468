"""What the runtime has done by the program's greenlets, under gevent and eventlet: logging, and calling the program.

Locks and sockets of the patched standard library are made for the greenlets of one thread; ``_logs.py`` has an
example of what happens otherwise.  So one of that thread's greenlets waits for what the runtime wants done.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from .. import _logs
from .._values.originals import pristine
from . import exiting

__all__ = ["GreenRelay", "ensure_relay"]

logger = logging.getLogger("kombu_actors.portal")

BOUND = 10_000
"""Calls that wait while no greenlet gets its turn: an outage makes a few a second for each connection."""


class Greenlet(Protocol):
    """One of either library's."""

    @property
    def dead(self) -> bool:
        """Whether it has ended."""


class Calls:
    """What is to be called, whichever greenlet does it; a relay whose thread has ended leaves them to the next."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], object]] = deque()
        self._left_out = 0

    def put(self, call: Callable[[], object]) -> None:
        """One more, if there is room."""
        if len(self.waiting) < BOUND:
            self.waiting.append(call)
        else:
            self._left_out += 1

    def make(self) -> None:
        """Make those that wait, in this greenlet."""
        while self.waiting:
            self.waiting.popleft()()
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            logger.error("%d lines of the runtime's were not logged: no greenlet had its turn meanwhile", left_out)


_calls = Calls()
os.register_at_fork(after_in_child=_calls.waiting.clear)  # the parent makes them


class GreenRelay:
    """A greenlet in the thread that made this; it makes calls for all threads, and keeps no hub from ending."""

    def __init__(self, library: str) -> None:
        self._pid = os.getpid()
        self._library = library
        self._get_ident = pristine("_thread").get_ident
        self._home: int = self._get_ident()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._spawn: Callable[..., Greenlet] = importlib.import_module(library).spawn
        self._greenlet = self._spawn(self._run)

    def __del__(self) -> None:
        os.close(self._descriptor)

    @property
    def alive(self) -> bool:
        """Whether calls are made: not in a forked child, nor when the thread has ended."""
        return self._pid == os.getpid() and not self._greenlet.dead

    def is_home(self) -> bool:
        """Whether the caller is in its thread."""
        here: int = self._get_ident()
        return here == self._home

    def post(self, call: Callable[[], object]) -> None:
        """Have a call made soon, which must not wait for long: the next one waits for its end.  Any thread."""
        _calls.put(call)
        os.eventfd_write(self._descriptor, 1)

    def spawn(self, call: Callable[[], object]) -> None:
        """Have a greenlet made for a call, however many wait: who asks has one under way at most.  Any thread."""
        _calls.waiting.append(partial(self._spawn, call))
        os.eventfd_write(self._descriptor, 1)

    def _run(self) -> None:
        wait = self._waiting()
        while True:
            _calls.make()
            wait()
            if self._pid != os.getpid():
                return  # what is to be read is for the parent
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._descriptor)

    def _waiting(self) -> Callable[[], object]:
        if self._library == "gevent":
            hub = importlib.import_module("gevent").get_hub()
            return partial(hub.wait, hub.loop.io(self._descriptor, 1, ref=False))
        return partial(importlib.import_module("eventlet.hubs").trampoline, self._descriptor, read=True)


def ensure_relay(library: str) -> None:
    """Have what waits, and what the runtime will want, called in this thread, unless another one does so."""
    if _logs.present_relay() is None:
        _logs.relay_by(GreenRelay(library))


exiting.afterwards.append(_calls.make)
