"""Calls from one thread into another, where one ring is heard for all that gather before the other has its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .._logs import get_logger
from ..errors import RuntimeStopped
from .forking import start_afresh_after_fork

__all__ = ["Bundle"]

logger = get_logger("kombu_actors.portal")


class Bundle:
    """Between the runtime and one event loop of the program; one for each direction.

    ``ring(fn)`` has ``fn()`` called in the other thread soon.  What is posted is bounded by who posts: deliveries by
    the backlog, publishes by the window, outcomes by those who wait for them, settlements by the deliveries.
    """

    def __init__(self, ring: Callable[[Callable[[], None]], object]) -> None:
        self._ring = ring
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._rung = False
        self._forked = False
        self._deaf = False
        start_afresh_after_fork(self)

    def __len__(self) -> int:
        return len(self._calls)

    def post(self, fn: Callable[..., object], *args: object) -> None:
        """Have ``fn(*args)`` called in the other thread, after all that was posted before.  One thread posts.

        Raises:
            RuntimeStopped: in a forked child, where the other thread is not.
        """
        if self._forked:
            raise RuntimeStopped("this process was forked from one with an open broker: open another one here")
        if self._deaf:
            return
        self._calls.append((fn, args))
        if not self._rung:
            self._rung = True
            try:
                self._ring(self._carry_out)
            except BaseException:
                self._rung = False  # interrupted, or there is nobody any more: whoever posts next finds out
                raise

    def close(self) -> None:
        """There is no other thread any more: forget what was posted, and what will be."""
        self._deaf = True
        self._calls.clear()

    def start_afresh(self) -> None:
        """In a forked child: the other thread is the parent's."""
        self._forked = True

    def _carry_out(self) -> None:
        self._rung = False  # before looking: what comes after the last look rings again
        calls = self._calls
        while calls:
            fn, args = calls.popleft()
            try:
                fn(*args)
            except Exception:
                logger.exception("%s failed, and nobody waits for it", getattr(fn, "__qualname__", fn))
