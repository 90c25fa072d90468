"""Cancelling a call at each step that the runtime takes while it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count

import trio

__all__ = ["CancelAt", "cancelled_everywhere"]


class CancelAt(trio.abc.Instrument):
    """Cancels a scope after so many steps of whichever tasks."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """One more step was taken."""
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


async def cancelled_everywhere(call: Callable[[], Awaitable[None]], check: Callable[[], Awaitable[None]]) -> int:
    """Cancel a call after one step, after two, and so on until it is through before that; check each time."""
    for steps in count(1):
        with trio.CancelScope() as scope:
            instrument = CancelAt(scope, steps)
            trio.lowlevel.add_instrument(instrument)
            try:
                await call()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await check()
        if instrument.left > 0:
            return steps
    raise AssertionError("unreachable")
