"""Where news from the runtime waits for the thread that drains events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count, repeat
from typing import Any, Protocol, TypeVar

from .._values.model import Delivery
from .bells import Sleepers
from .listener import Listener

__all__ = ["Addressee", "Inbox", "Item", "NothingCame", "Taken"]

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
BEHIND = 512
"""Deliveries from which on who takes them is behind: then each needn't be read from the socket by itself."""
FEW = 16
"""Items in the inbox at which reading goes on: not none, so that those who take needn't wait for the broker."""
_NEVER: object = object()
A = TypeVar("A", bound=Addressee)


class NothingCame(TimeoutError):
    """The time to wait for news has passed."""


class Inbox:
    """Deliveries and other news on their way from the runtime to whoever drains.

    Bounded by the prefetch of its consumers; where there is none, ``pause`` is called when more
    than ``limit`` bytes or ``MESSAGES`` wait, before that ``read_seldom`` when more than ``BEHIND`` do, and ``resume``
    when they have been taken.  They are called in the runtime, which alone decides; who takes an item only has it look
    again, through ``post``.

    What one thread takes may be what another waits for (its queue's message, its reply), so each
    ``handled`` ends the waiting of all others: they return with nothing and look again.
    """

    def __init__(
        self,
        limit: int,
        pause: Callable[[], object],
        resume: Callable[[], object],
        read_seldom: Callable[[], object],
    ) -> None:
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
        self._listener: Listener | None = None
        self._failure: BaseException | None = None
        self._closed: BaseException | None = None
        self._numbers = count(1)
        self._pause = pause
        self._resume = resume
        self._read_seldom = read_seldom
        self._unmeasured = 0
        self._bound = BEHIND
        """How many may wait until something has to be done about it."""

    # What comes in: the runtime's thread

    def put(self, addressee: Addressee, batch: Iterable[Item]) -> None:
        """Add news for one addressee, in order."""
        self.waiting.extend(zip(repeat(addressee), batch))
        self._tell()

    def _tell(self) -> None:
        if self._sleepers:  # who falls asleep looks once more afterwards
            self._sleepers.wake()
        if self._listener is not None:
            self._listener.ring()

    def put_deliveries(self, addressee: Addressee, batch: list[Delivery]) -> None:
        """``put`` for messages, which count against the limit."""
        if len(batch) == 1:  # as most are where there are many consumers
            delivery = batch[0]
            self._unmeasured += len(delivery.body)
            self.waiting.append((addressee, delivery))
        else:
            self._unmeasured += sum([len(delivery.body) for delivery in batch])
            self.waiting.extend(zip(repeat(addressee), batch))
        self._tell()
        if self._unmeasured > self.limit // 8 or len(self.waiting) > self._bound:
            self._measure()

    def _measure(self) -> None:
        waiting = len(self.waiting)
        full = waiting > MESSAGES
        if self._unmeasured > self.limit // 8:
            # Measured afresh each time, so that takers need not keep a shared count.
            self._unmeasured = 0
            full = full or sum(len(getattr(item, "body", b"")) for _, item in list(self.waiting)) > self.limit
        if full:
            # Each time: the session, and with it who reads, may be another one.
            self._bound = MESSAGES
            self._pause()
            self._have_it_looked()  # all of it may have been taken while it was measured
        elif waiting > self._bound:
            self._bound = MESSAGES
            self._read_seldom()
            self._have_it_looked()

    def _have_it_looked(self) -> None:
        if self.post is not None:
            self.post(self.look)

    def look(self) -> None:
        """Have reading go on as usual, if it doesn't and few items are left."""
        if self._bound > BEHIND and len(self.waiting) < FEW:
            self._bound = BEHIND
            self._resume()

    def fail(self, error: BaseException) -> None:
        """Have the next ``take`` raise ``error``, once what came before it has been taken."""
        self._failure = error
        self._tell()

    def close(self, reason: BaseException) -> None:
        """Have every ``take`` that would wait raise ``reason``: nothing will come any more."""
        self._closed = reason
        self._tell()

    # What is taken out: any thread

    def listen(self) -> Listener:
        """What is rung whenever news come from now on, and at once if there are some."""
        if self._listener is None:
            self._listener = Listener()
        if self.has_news:
            self._listener.ring()
        return self._listener

    @property
    def has_news(self) -> bool:
        """Whether ``take`` has something, or has to say why nothing will come, now."""
        return bool(self.waiting) or self._failure is not None or self._closed is not None

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
        self._tell()

    def take(self, taken: Taken, timeout: float | None, since: int | None = None) -> None:
        """Move the oldest item into ``taken``; nothing when another thread has handled one meanwhile.

        ``since`` is the ``handled_so_far`` from which on it counts; from now on when None.  Interrupted
        at any point, the item is here or there.

        Raises:
            NothingCame: nothing came within ``timeout`` seconds.
            whatever ``fail`` was given: once; what ``close`` was given: always.
        """
        if self._bound > BEHIND and len(self.waiting) < FEW:
            self._have_it_looked()
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
                    raise NothingCame("timed out")
                bell.wait(remaining)
                if self._take_oldest(taken):  # mostly what it was rung for; else all the questions again
                    return
            finally:
                self._sleepers.take_down(bell)
