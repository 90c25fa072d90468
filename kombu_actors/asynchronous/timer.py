"""Calls to be made later, for whoever asks what is due."""

from __future__ import annotations

import heapq
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import wraps
from time import monotonic, time
from types import TracebackType
from typing import ClassVar, NamedTuple, Self, overload

from ..log import get_logger
from ..utils.functional import reprcall

__all__ = ["Entry", "Timer", "logger", "scheduled", "to_timestamp"]

MAX_INTERVAL = 2.0
"""Seconds after which whoever waits looks again, by default: what others entered meanwhile may be due earlier."""
logger: logging.Logger = get_logger(__name__)

When = datetime | float


@overload
def to_timestamp(d: When, default_timezone: tzinfo = UTC, time: Callable[[], float] = monotonic) -> float: ...
@overload
def to_timestamp(d: None, default_timezone: tzinfo = UTC, time: Callable[[], float] = monotonic) -> None: ...
def to_timestamp(d: When | None, default_timezone: tzinfo = UTC, time: Callable[[], float] = monotonic) -> float | None:
    """A moment on the monotonic clock; a number is one already.

    A datetime without timezone has ``default_timezone``.
    """
    if not isinstance(d, datetime):
        return d
    moment = d if d.tzinfo is not None else d.replace(tzinfo=default_timezone)
    return max(moment.timestamp() - _wall() + time(), 0)


_wall = time


class Entry:
    """A call to be made once."""

    __slots__ = ("__weakref__", "_last_run", "args", "canceled", "fun", "kwargs", "tref")

    def __init__(
        self,
        fun: Callable[..., object],
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
    ) -> None:
        self.fun = fun
        self.args = args or ()
        self.kwargs = kwargs or {}
        self.tref = self
        """Itself: kombu's code cancels an entry by it."""
        self.canceled = False
        self._last_run: float | None = None

    def __call__(self) -> object:
        return self.fun(*self.args, **self.kwargs)

    def cancel(self) -> None:
        """Have it not made, if it wasn't yet."""
        self.canceled = True

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.canceled

    def __repr__(self) -> str:
        return f"<TimerEntry: {reprcall(getattr(self.fun, '__name__', repr(self.fun)), self.args, self.kwargs)}>"

    # In a heap those for the same moment are compared; which comes first doesn't matter.

    def __lt__(self, other: object) -> bool:
        return id(self) < id(other)

    def __gt__(self, other: object) -> bool:
        return id(self) > id(other)

    def __le__(self, other: object) -> bool:
        return id(self) <= id(other)

    def __ge__(self, other: object) -> bool:
        return id(self) >= id(other)


_Entry = Entry  # the timer has an attribute of that name


class scheduled(NamedTuple):
    """An entry in its place in the schedule."""

    eta: float
    """The moment, on the monotonic clock."""
    priority: int
    entry: Entry


class Timer:
    """Which call is due when; iterating says what to do next.

    ``on_error(exc)`` hears of what a call raised when ``apply_entry`` makes it; by default it is logged.
    """

    Entry: ClassVar = Entry
    on_error: Callable[..., object] | None = None

    def __init__(
        self, max_interval: float | None = None, on_error: Callable[..., object] | None = None, **kwargs: object
    ) -> None:
        self.max_interval = float(max_interval or MAX_INTERVAL)
        self.on_error = on_error or self.on_error
        self._queue: list[scheduled] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.stop()

    def call_at(
        self,
        eta: When,
        fun: Callable[..., object],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        priority: int = 0,
    ) -> _Entry:
        """Have ``fun(*args, **kwargs)`` called at a moment: a datetime, or a number on the monotonic clock."""
        return self.enter_at(self.Entry(fun, args, kwargs), eta, priority)

    def call_after(
        self,
        secs: float,
        fun: Callable[..., object],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        priority: int = 0,
    ) -> _Entry:
        """Have it called in so many seconds."""
        return self.enter_after(secs, self.Entry(fun, args, kwargs), priority)

    def call_repeatedly(
        self,
        secs: float,
        fun: Callable[..., object],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        priority: int = 0,
    ) -> _Entry:
        """Have it called every so many seconds, until the entry is cancelled; one that fails is called again."""
        entry: _Entry = self.Entry(fun, args, kwargs)

        @wraps(fun)
        def again(*args: object, **kwargs: object) -> object:
            entry._last_run = monotonic()
            try:
                return fun(*args, **kwargs)
            finally:
                if not entry.canceled:
                    self.enter_at(entry, entry._last_run + secs, priority)

        entry.fun = again
        return self.enter_after(secs, entry, priority)

    def enter_at(
        self, entry: _Entry, eta: When | None = None, priority: int = 0, time: Callable[[], float] = monotonic
    ) -> _Entry:
        """Enter an entry for a moment, now by default; returns it.

        A moment that no clock can tell is ``on_error``'s, and raised where there is none.
        """
        try:
            moment = time() if eta is None else float(to_timestamp(eta))
        except OverflowError as error:
            if not self.handle_error((type(error), error, error.__traceback__)):
                raise
            return entry
        return self._enter(moment, priority, entry)

    def enter_after(
        self, secs: float, entry: _Entry, priority: int = 0, time: Callable[[], float] = monotonic
    ) -> _Entry:
        """Enter an entry for a moment in so many seconds; returns it."""
        return self.enter_at(entry, time() + float(secs), priority)

    def _enter(self, eta: float, priority: int, entry: _Entry) -> _Entry:
        heapq.heappush(self._queue, scheduled(eta, priority, entry))
        return entry

    def apply_entry(self, entry: _Entry) -> None:
        """Make a call; what it raises goes to ``on_error``, or to the log."""
        try:
            entry()
        except Exception as error:
            if not self.handle_error(sys.exc_info()):
                logger.error("Error in timer: %r", error, exc_info=True)

    def handle_error(self, exc_info: object) -> bool:
        """Tell ``on_error``; returns whether there is one."""
        if self.on_error is None:
            return False
        self.on_error(exc_info[1] if isinstance(exc_info, tuple) else exc_info)
        return True

    def stop(self) -> None:
        """Nothing to do: whoever iterates makes the calls."""

    def __iter__(self) -> Iterator[tuple[float | None, _Entry | None]]:
        """For ever: ``(None, entry)`` that is due now; ``(seconds, None)`` to wait; ``(None, None)``: nothing to do."""
        while True:
            try:
                first = self._queue[0]
                left = first.eta - monotonic()
                if left <= 0 or first.entry.canceled:
                    first = heapq.heappop(self._queue)
            except IndexError:
                yield None, None
                continue
            if first.entry.canceled:
                continue
            if left > 0:
                yield min(left, self.max_interval), None
            else:
                yield None, first.entry

    def clear(self) -> None:
        """Forget all entries."""
        self._queue.clear()

    def cancel(self, tref: _Entry) -> None:
        """Cancel an entry."""
        tref.cancel()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def queue(self) -> list[scheduled]:
        """What is entered now, in order."""
        return sorted(self._queue)

    @property
    def schedule(self) -> Timer:
        """Itself."""
        return self
