"""What a task of the runtime takes, one by one, and an event loop of the program makes, many at a time."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import trio

from .bundle import Bundle

__all__ = ["AT_ONCE", "Supply"]

T = TypeVar("T")
AT_ONCE = 128
"""Items made for one asking: enough that the two wake-ups cost a fraction of making them."""


class Supply(Generic[T]):
    """``make()`` is called in the loop, in the context of whoever made this; it returns some, and whether more come."""

    def __init__(self, make: Callable[[], tuple[list[T], bool]], to_loop: Bundle, to_runtime: Bundle) -> None:
        self._make = make
        self._to_loop = to_loop
        self._to_runtime = to_runtime
        self._context = contextvars.copy_context()
        self._here: deque[T] = deque()
        """At most one and a half times ``AT_ONCE``."""
        self._asked = False
        self._more = True
        self._error: BaseException | None = None
        self._arrived = trio.Event()

    async def next(self) -> T:
        """The next one; raises what ``make`` raised.  Not to be called after the last one.  Runtime."""
        if self._more and not self._asked and len(self._here) <= AT_ONCE // 2:
            self._asked = True
            self._to_loop.post(self._make_some)
        while not self._here:
            if self._error is not None:
                raise self._error
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._here.popleft()

    def _make_some(self) -> None:
        try:
            made, more = self._context.run(self._make)
        except BaseException as error:  # raised where it is waited for
            self._to_runtime.post(self._take, [], False, error)
        else:
            self._to_runtime.post(self._take, made, more, None)

    def _take(self, made: list[T], more: bool, error: BaseException | None) -> None:
        self._here.extend(made)
        self._more, self._error, self._asked = more, error, False
        self._arrived.set()
