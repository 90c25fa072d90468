"""Calls to be made at an event loop's next turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

__all__ = ["Calls", "Soon", "Stop", "stop"]


class Stop(BaseException):
    """Ends ``run_forever``."""


def stop() -> None:
    """Made as a call, it ends the loop."""
    raise Stop


class Soon:
    """A call to be made at the next turn; calling it makes it, once."""

    __slots__ = ("args", "cancelled", "fun")

    def __init__(self, fun: Callable[..., object], args: tuple[object, ...]) -> None:
        self.fun = fun
        self.args = args
        self.cancelled = False

    def __call__(self) -> object:
        if not self.cancelled:
            self.cancelled = True
            return self.fun(*self.args)
        return None

    def cancel(self) -> None:
        """Have it not made, if it wasn't yet."""
        self.cancelled = True

    def __repr__(self) -> str:
        return f"<Soon: {self.fun!r}{self.args!r}>"


class Calls:
    """Those that wait, each once, in order; any thread may add one.  True while there are some."""

    def __init__(self) -> None:
        self._waiting: dict[Callable[[], object], None] = {}
        self._lock = threading.RLock()  # reentrant: a signal handler may add one in the middle of another's addition

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Callable[[], object]]:
        return iter(list(self._waiting))

    def add(self, call: Callable[[], object]) -> None:
        """Have one more wait."""
        with self._lock:
            self._waiting[call] = None

    def take(self) -> deque[Callable[[], object]]:
        """Take out all that wait."""
        with self._lock:
            taken, self._waiting = deque(self._waiting), {}
        return taken

    def make(self) -> None:
        """Make all that wait now; when one raises, the others go on waiting."""
        taken = self.take()
        try:
            while taken:
                taken.popleft()()
        finally:
            if taken:
                with self._lock:
                    self._waiting = dict.fromkeys(taken) | self._waiting
