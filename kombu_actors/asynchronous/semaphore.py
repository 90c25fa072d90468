"""Bounds for programs on an event loop: who finds no room is called when there is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self

__all__ = ["DummyLock", "LaxBoundedSemaphore"]

P = ParamSpec("P")


class LaxBoundedSemaphore:
    """At most ``value`` at a time; releasing more often than acquiring does no harm.

    Who waits is called in the order of acquiring.  Not for several threads at a time.
    """

    def __init__(self, value: int) -> None:
        self.initial_value = self.value = value
        self._waiting: deque[tuple[Callable[..., object], tuple[object, ...], dict[str, object]]] = deque()

    def acquire(self, callback: Callable[P, object], *partial_args: P.args, **partial_kwargs: P.kwargs) -> bool:
        """Call ``callback(...)`` now, or else when somebody releases; returns whether it was called."""
        if self.value <= 0:
            self._waiting.append((callback, partial_args, partial_kwargs))
            return False
        self.value -= 1
        callback(*partial_args, **partial_kwargs)
        return True

    def release(self) -> None:
        """Let the next one go on."""
        if self._waiting:
            callback, args, kwargs = self._waiting.popleft()
            callback(*args, **kwargs)
        else:
            self.value = min(self.value + 1, self.initial_value)

    def grow(self, n: int = 1) -> None:
        """Have room for ``n`` more."""
        self.initial_value += n
        self.value += n
        for _ in range(min(n, len(self._waiting))):
            self.value -= 1
            callback, args, kwargs = self._waiting.popleft()
            callback(*args, **kwargs)

    def shrink(self, n: int = 1) -> None:
        """Have room for ``n`` fewer, none at the least."""
        self.initial_value = max(self.initial_value - n, 0)
        self.value = max(self.value - n, 0)

    def clear(self) -> None:
        """All room is free again, and who waits is forgotten."""
        self._waiting.clear()
        self.value = self.initial_value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} value:{self.value} waiting:{len(self._waiting)}>"


class DummyLock:
    """Looks like a lock, where nothing has to be locked."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Nothing to give back."""
