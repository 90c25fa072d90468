"""Where news from the runtime waits for the thread that drains events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count, repeat
from typing import Any

_own = threading.local()


def _own_bell() -> threading.Lock:
    """The calling thread's bell: a held lock; whoever releases it wakes the thread."""
    bell: threading.Lock | None = getattr(_own, "bell", None)
    if bell is None:
        bell = _own.bell = threading.Lock()
        bell.acquire()
    return bell


class Inbox:
    """Deliveries and other news on their way from the runtime to whoever drains.

    Bounded by the prefetch of its consumers; where there is none, ``on_full`` is told once
    more than ``limit`` bytes wait, and ``on_room`` when they have been taken.

    What one thread takes may be what another waits for (its queue's message, its reply), so each
    ``handled`` ends the waiting of all others: they return with nothing and look again.

    A thread that finds it empty hangs up its bell and looks again before it sleeps, so news is
    never missed; a bell rung for nothing only makes it look once more.
    """

    def __init__(self, limit: int, on_full: Callable[[], None]) -> None:
        self.limit = limit
        self.on_room: Callable[[], None] | None = None
        self._items: deque[tuple[Any, Any]] = deque()
        self._sleepers: deque[threading.Lock] = deque()
        self._failure: BaseException | None = None
        self._closed: BaseException | None = None
        self._numbers = count(1)
        self.handled_so_far = 0
        """Changes whenever a thread has done what an item asked for."""
        self._on_full = on_full
        self._unmeasured = 0
        self._full = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, key: Any, batch: Iterable[Any]) -> None:
        """Add news under one key, in order.  Runtime thread."""
        self._items.extend(zip(repeat(key), batch))
        self._wake()

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

    def withdraw(self, belongs: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
        """Take out what is there now under such keys; what another thread takes meanwhile is that thread's."""
        taken = []
        for item in list(self._items):
            if belongs(item[0]):
                try:
                    self._items.remove(item)
                except (ValueError, IndexError):  # gone, or the queue was changed while it was looked for
                    continue
                taken.append(item)
        return taken

    def fail(self, error: BaseException) -> None:
        """Have the next ``get`` raise ``error``, once what came before it has been taken."""
        self._failure = error
        self._wake()

    def close(self, reason: BaseException) -> None:
        """Have every ``get`` that would wait raise ``reason``: nothing will come any more."""
        self._closed = reason
        self._wake()

    def pending_failure(self) -> BaseException | None:
        """What ``fail`` was given and no ``get`` has raised yet; taking it settles it."""
        failure, self._failure = self._failure, None
        return failure

    def handled(self) -> None:
        """The calling thread has done what an item asked for."""
        self.handled_so_far = next(self._numbers)
        if self._sleepers:
            self._wake()

    def get(self, timeout: float | None, since: int | None = None) -> tuple[Any, Any]:
        """Take the oldest item; ``(None, None)`` when another thread has handled one meanwhile.

        ``since`` is the ``handled_so_far`` from which on it counts; from now on when None.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
            whatever ``fail`` was given: once; what ``close`` was given: always.
        """
        if self._full and len(self._items) < 16:
            self._full = False
            if self.on_room is not None:
                self.on_room()
        try:
            return self._items.popleft()
        except IndexError:
            return self._wait(timeout, self.handled_so_far if since is None else since)

    def _wait(self, timeout: float | None, since: int) -> tuple[Any, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        bell = _own_bell()
        while True:
            self._sleepers.append(bell)
            rung = False
            try:
                if self._items:
                    return self._items.popleft()
                if self._failure is not None:
                    failure = self.pending_failure()
                    if failure is not None:
                        raise failure
                if self.handled_so_far != since:
                    return None, None
                if self._closed is not None:
                    raise self._closed.with_traceback(None)
                remaining = -1.0 if deadline is None else deadline - time.monotonic()
                if deadline is not None and remaining <= 0:
                    raise TimeoutError("timed out")
                rung = bell.acquire(timeout=remaining)
            except IndexError:
                continue  # another thread was faster
            finally:
                if not rung:
                    self._withdraw(bell)

    def _withdraw(self, bell: threading.Lock) -> None:
        try:
            self._sleepers.remove(bell)
        except ValueError:
            bell.acquire()  # it has just been taken down to be rung

    def _wake(self) -> None:
        while True:
            try:
                bell = self._sleepers.popleft()
            except IndexError:
                return
            bell.release()
