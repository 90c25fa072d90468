"""One call from a thread into the runtime."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ..errors import DeadlineExceeded, RuntimeStopped
from .bells import Bell, new_bell
from .doorbell import Refusable

__all__ = ["Job"]


class Job(Refusable):
    """The thread waits until it is ``finished``; the rest belongs to trio."""

    __slots__ = ("args", "bell", "error", "finished", "fn", "result", "scope", "timeout")

    def __init__(self, fn: Callable[..., Awaitable[object]], args: tuple[object, ...], timeout: float | None) -> None:
        self.fn = fn
        self.args = args
        self.timeout = timeout
        self.result: Any = None
        self.error: BaseException | None = None
        self.scope: trio.CancelScope | None = None
        """There once it has begun."""
        self.finished = False
        self.bell: Bell | None = None
        """Rung when it is finished; who hangs it up looks afterwards whether it is."""

    def wait(self) -> None:
        """Wait for the end, in the thread that asked.  May be called again after an interrupted wait."""
        while not self.finished:
            bell = self.bell = new_bell()
            if not self.finished:
                bell.wait()

    def begin(self) -> None:
        """In the runtime: its time is running."""
        self.scope = trio.CancelScope(
            deadline=trio.current_time() + self.timeout if self.timeout is not None else math.inf
        )

    async def run(self, running: set[Job]) -> None:
        """Make the call, as one of the jobs ``running``."""
        assert self.scope is not None
        expired = True
        try:
            with self.scope:
                try:
                    self.result = await self.fn(*self.args)
                except (trio.Cancelled, GeneratorExit):
                    raise
                except BaseException as error:  # carried to the thread that asked
                    self.error = error
                expired = False
            if expired:
                self.error = DeadlineExceeded(
                    f"{getattr(self.fn, '__name__', 'the call')} did not finish within {self.timeout} s"
                )
                expired = False
        finally:
            running.discard(self)
            if not self.finished:  # as it is when the runtime has died and the collector closes what is left of it
                if expired:
                    self.error = RuntimeStopped("the runtime ended while the call was under way")
                self._finish()

    def cancel(self) -> None:
        """Whoever asked has been interrupted.  In the runtime."""
        if self.scope is not None:
            self.scope.cancel()
        else:
            self._finish()

    def refuse(self) -> None:
        """The runtime has ended before the call could begin."""
        self.fail(RuntimeStopped("kombu_actors' runtime is ending"))

    def fail(self, error: RuntimeStopped) -> None:
        """The runtime has ended, and the call with it."""
        if not self.finished:
            self.error = error
            self._finish()

    def _finish(self) -> None:
        self.finished = True
        bell = self.bell
        if bell is not None:
            bell.ring()
