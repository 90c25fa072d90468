"""Where news from the runtime waits for the thread that drains events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count, repeat
from typing import Any, Protocol, TypeVar

from .._values.model import Delivery
from .bells import Sleepers

__all__ = ["Addressee", "Inbox", "Item", "Taken"]

Item = Any
"""A delivery or another piece of news, which only its addressee knows."""


class Addressee(Protocol):
    """Whom an item in the inbox is for."""

    def dispatch(self, channels: Mapping[int, Any], taken: Taken) -> bool:
        """Hand the item in ``taken`` to user code, in the thread that has taken it; False when nobody wants it."""


Taken = list[tuple[Addressee, Item]]
"""Room for one item on its way from the inbox to user code: ``(addressee, item)``, or nothing."""
MESSAGES = 16_384
"""Deliveries that may wait, however small: with what Python takes for each, about as much as the bound in bytes."""
FEW = 16
"""Items in the inbox at which reading goes on: not none, so that those who take needn't wait for the broker."""
_NEVER: Any = object()
A = TypeVar("A", bound=Addressee)


class Inbox:
    """Deliveries and other news on their way from the runtime to whoever drains.

    Bounded by the prefetch of its consumers; where there is none, ``pause`` is called when more
    than ``limit`` bytes or ``MESSAGES`` wait, and ``resume`` when they have been taken.  Both are called in the
    runtime, which alone decides; who takes an item only has it look again, through ``post``.

    What one thread takes may be what another waits for (its queue's message, its reply), so each
    ``handled`` ends the waiting of all others: they return with nothing and look again.
    """

    def __init__(self, limit: int, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        self.limit = limit
        self.post: Callable[[Callable[[], object]], object] | None = None
        self.handled_so_far = 0
        """Changes whenever a thread has done what an item asked for."""
        self.waiting: deque[tuple[Addressee, Item]] = deque()
        """What nobody has taken yet; others may ask whether it is empty."""
        # An iterator of C's, for a loop takes from it without a point at which a signal handler could run: what is
        # taken by a call is lost when the handler raises before the result is stored.
        self._oldest = iter(self.waiting.popleft, _NEVER)
        self._sleepers = Sleepers()
        self._failure: BaseException | None = None
        self._closed: BaseException | None = None
        self._numbers = count(1)
        self._pause = pause
        self._resume = resume
        self._unmeasured = 0
        self._full = False

    # What comes in: the runtime's thread

    def put(self, addressee: Addressee, batch: Iterable[Item]) -> None:
        """Add news for one addressee, in order."""
        self.waiting.extend(zip(repeat(addressee), batch))
        if self._sleepers:  # who falls asleep looks once more afterwards
            self._sleepers.wake()

    def put_deliveries(self, addressee: Addressee, batch: list[Delivery]) -> None:
        """``put`` for messages, which count against the limit."""
        self._unmeasured += len(batch[0].body) if len(batch) == 1 else sum([len(delivery.body) for delivery in batch])
        self.put(addressee, batch)
        if self._unmeasured > self.limit // 8 or len(self.waiting) > MESSAGES:
            self._measure()

    def _measure(self) -> None:
        full = len(self.waiting) > MESSAGES
        if self._unmeasured > self.limit // 8:
            # Measured afresh each time, so that takers need not keep a shared count.
            self._unmeasured = 0
            full = full or sum(len(getattr(item, "body", b"")) for _, item in list(self.waiting)) > self.limit
        if full:
            # Each time: the session, and with it who reads, may be another one.
            self._full = True
            self._pause()
            self.look()  # all of it may have been taken while it was measured

    def look(self) -> None:
        """Have reading go on, if it was paused and few items are left."""
        if self._full and len(self.waiting) < FEW:
            self._full = False
            self._resume()

    def fail(self, error: BaseException) -> None:
        """Have the next ``take`` raise ``error``, once what came before it has been taken."""
        self._failure = error
        self._sleepers.wake()

    def close(self, reason: BaseException) -> None:
        """Have every ``take`` that would wait raise ``reason``: nothing will come any more."""
        self._closed = reason
        self._sleepers.wake()

    # What is taken out: any thread

    def withdraw(self, kind: type[A], belongs: Callable[[A], bool]) -> list[tuple[A, Item]]:
        """Take out what is there now for such addressees; what another thread takes meanwhile is that thread's."""
        taken: list[tuple[A, Item]] = []
        for addressee, item in list(self.waiting):
            if isinstance(addressee, kind) and belongs(addressee):
                try:
                    self.waiting.remove((addressee, item))
                except (ValueError, IndexError):  # gone, or the queue was changed while it was looked for
                    continue
                taken.append((addressee, item))
        return taken

    def pending_failure(self) -> BaseException | None:
        """What ``fail`` was given and no ``take`` has raised yet; taking it settles it."""
        failure, self._failure = self._failure, None
        return failure

    def handled(self) -> None:
        """The calling thread has done what an item asked for."""
        try:
            self._tell_others()
        except BaseException:
            self._tell_others()  # who was interrupted has handled it all the same
            raise

    def _tell_others(self) -> None:
        self.handled_so_far = next(self._numbers)
        if self._sleepers:
            self._sleepers.wake()

    def put_back(self, taken: Taken) -> None:
        """Whoever took the item was interrupted before user code had it: it is the oldest again."""
        self.waiting.appendleft(taken[0])
        self._sleepers.wake()

    def take(self, taken: Taken, timeout: float | None, since: int | None = None) -> None:
        """Move the oldest item into ``taken``; nothing when another thread has handled one meanwhile.

        ``since`` is the ``handled_so_far`` from which on it counts; from now on when None.  Interrupted
        at any point, the item is here or there.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
            whatever ``fail`` was given: once; what ``close`` was given: always.
        """
        if self._full and self.post is not None and len(self.waiting) < FEW:
            self.post(self.look)
        try:
            for item in self._oldest:  # ``_take_oldest``, without a call for each message
                taken.append(item)
                return
        except IndexError:
            pass
        self._wait(taken, timeout, self.handled_so_far if since is None else since)

    def _take_oldest(self, taken: Taken) -> bool:
        try:
            for item in self._oldest:
                taken.append(item)
                return True
        except IndexError:
            return False
        return False

    def _wait(self, taken: Taken, timeout: float | None, since: int) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            bell = self._sleepers.hang_up()
            try:
                if self._take_oldest(taken):
                    return
                if self._failure is not None:
                    failure = self.pending_failure()
                    if failure is not None:
                        raise failure
                if self.handled_so_far != since:
                    return
                if self._closed is not None:
                    raise self._closed.with_traceback(None)
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise TimeoutError("timed out")
                bell.wait(remaining)
                if self._take_oldest(taken):  # mostly what it was rung for; else all the questions again
                    return
            finally:
                self._sleepers.take_down(bell)
