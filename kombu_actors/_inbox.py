"""Where news from the runtime waits for the thread that drains events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any


class Inbox:
    """Deliveries and other news on their way from the runtime to whoever drains.

    Bounded by the prefetch of its consumers; where there is none, ``on_full`` is told once
    more than ``limit`` bytes wait, and ``on_room`` when they have been taken.
    """

    def __init__(self, limit: int, on_full: Callable[[], None]) -> None:
        self.limit = limit
        self.on_room: Callable[[], None] | None = None
        self._items: deque[tuple[Any, Any]] = deque()
        self._condition = threading.Condition(threading.Lock())
        self._waiting = 0
        self._failure: BaseException | None = None
        self._on_full = on_full
        self._unmeasured = 0
        self._full = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Any, batch: Iterable[Any]) -> None:
        """Add news under one key, in order.  Runtime thread."""
        self._items.extend(zip(repeat(key), batch))
        if self._waiting:
            with self._condition:
                self._condition.notify_all()

    def put_deliveries(self, key: Any, batch: list[Any]) -> None:
        """``put`` for messages, which count against the limit."""
        self._unmeasured += sum(len(delivery.body) for delivery in batch)
        self.put(key, batch)
        if self._unmeasured > self.limit // 8:
            # Measured afresh each time, so that takers need not keep a shared count.
            self._unmeasured = 0
            waiting = sum(len(getattr(item, "body", b"")) for _, item in list(self._items))
            if waiting > self.limit and not self._full:
                self._full = True
                self._on_full()

    def fail(self, error: BaseException) -> None:
        """Have the next ``get`` raise ``error``, once what came before it has been taken."""
        with self._condition:
            self._failure = error
            self._condition.notify_all()

    def pending_failure(self) -> BaseException | None:
        """What ``fail`` was given and no ``get`` has raised yet; taking it settles it."""
        with self._condition:
            failure, self._failure = self._failure, None
            return failure

    def get(self, timeout: float | None) -> tuple[Any, Any]:
        """Take the oldest item.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
            whatever ``fail`` was given: once.
        """
        if self._full and len(self._items) < 16:
            self._full = False
            if self.on_room is not None:
                self.on_room()
        try:
            return self._items.popleft()
        except IndexError:
            return self._wait(timeout)

    def _wait(self, timeout: float | None) -> tuple[Any, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            self._waiting += 1
            try:
                while True:
                    try:
                        return self._items.popleft()
                    except IndexError:
                        pass
                    if self._failure is not None:
                        failure, self._failure = self._failure, None
                        raise failure
                    remaining = None if deadline is None else deadline - time.monotonic()
                    if remaining is not None and remaining <= 0:
                        raise TimeoutError("timed out")
                    self._condition.wait(remaining)
            finally:
                self._waiting -= 1
