"""How a thread wakes the runtime: a queue of calls and a pipe to ring with.

trio's own ``run_sync_soon`` does the same at three times the cost (its socket pair is read until
it would block, in an extra tick); a message that travels alone pays that once per hop.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from ._forking import start_afresh_after_fork
from .errors import RuntimeStopped

Call = tuple[Callable[..., object], tuple[Any, ...]]


class Doorbell:
    """Calls from threads, carried out one by one in the trio thread."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._rung = False
        self._closed = False
        self._lock = threading.Lock()
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)
        start_afresh_after_fork(self)

    def post(self, fn: Callable[..., object], *args: Any) -> None:
        """Have ``fn(*args)`` called in the trio thread soon; ``fn`` must not raise.

        Raises:
            RuntimeStopped: nobody answers any more.
        """
        self._calls.append((fn, args))
        # Answering clears the flag before it empties the queue, so a call is never left behind.
        if not self._rung:
            self._rung = True
            with self._lock:
                if not self._closed:
                    os.write(self._in, b"!")
        if self._closed:
            self._refuse()
            raise RuntimeStopped("kombu_actors' runtime has ended; make a new Connection")

    async def answer(self) -> None:
        """Carry out calls until cancelled, then refuse those that come."""
        calls = self._calls
        try:
            while True:
                await trio.lowlevel.wait_readable(self._out)
                os.read(self._out, 64)
                self._rung = False
                while calls:
                    fn, args = calls.popleft()
                    fn(*args)
        finally:
            self.close()

    def start_afresh(self) -> None:
        """In a forked child: the answering thread is not here, nor who may have held the lock."""
        self._lock = threading.Lock()
        self.close()

    def close(self) -> None:
        """Refuse all calls from now on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._in)
            os.close(self._out)
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
