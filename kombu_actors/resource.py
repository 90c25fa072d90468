"""Pools: a bounded number of things, lent and taken back."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Generic, Protocol, TypedDict, TypeVar, cast

from ._bridge.bells import Sleepers
from ._bridge.forking import start_afresh_after_fork
from .errors import LimitExceeded

__all__ = ["Resource"]

CLOSE_PATIENCE = 5.0
"""Seconds for ``force_close_all``, as for a connection's ``release()``."""
R = TypeVar("R")
logger = logging.getLogger(__name__)


class PoolOptions(TypedDict, total=False):
    """What every pool may be told, beside its limit."""

    preload: int | None
    close_after_fork: bool | None


class _Lendable(Protocol):
    """What most resources have."""

    close: Callable[[], object]
    release: Callable[[], object]


class _Place(Generic[R]):
    """One place of a pool while its resource is being made or taken back."""

    __slots__ = ("resource",)

    def __init__(self) -> None:
        self.resource: R | None = None
        """The resource that was idle in it, or comes back to it."""


class Resource(Generic[R]):
    """A pool of up to ``limit`` resources; without limit each ``acquire`` makes one, each release closes it.

    A subclass says how one is made (``new``), and may say how it is made ready (``prepare``), cleaned up
    (``release_resource``), closed (``close_resource``) and dropped (``collect_resource``).  The resource
    released last is lent first: the others may then grow old and idle undisturbed.

    May be used from any number of threads.  In a forked child every pool starts empty: what the
    parent's holds stays the parent's, so ``close_after_fork`` changes nothing.
    """

    LimitExceeded: ClassVar[type[Exception]] = LimitExceeded
    close_after_fork: bool = True
    members: ClassVar[str] = "resources"
    """What the pool holds, for its error texts."""

    def __init__(
        self, limit: int | None = None, preload: int | None = None, close_after_fork: bool | None = None
    ) -> None:
        self._limit = _checked(limit)
        self.preload = preload or 0
        self._idle: list[R] = []
        self._dirty: dict[int, R] = {}
        """What is lent, by its id; under kombu's name, by which programs count it (and Celery's own tests)."""
        self._changing: set[_Place[R]] = set()
        """Places of resources that are being made or taken back just now."""
        self._lock = threading.RLock()
        self._waiting = Sleepers()
        """Threads that wait for a place; each looks again whenever there may be one."""
        self._closed = False
        start_afresh_after_fork(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._dirty)} of {self.limit or 'any number of'} {self.members} lent>"

    # What a subclass says

    def setup(self) -> None:
        """Nothing to do before the first is lent; kombu's pools call it when they are made."""

    def new(self) -> R:
        """Make one."""
        raise NotImplementedError(f"{type(self).__name__} must say how to make one: def new(self)")

    def prepare(self, resource: R) -> R:
        """Make a new or idle one ready, just before it is lent; what is returned is lent."""
        return resource

    def release_resource(self, resource: R) -> None:
        """Clean one up before others may have it."""

    def close_resource(self, resource: R) -> None:
        """Close one for good."""
        cast(_Lendable, resource).close()

    def collect_resource(self, resource: R) -> None:
        """Drop one that may be in use, without waiting for anything."""
        self.close_resource(resource)

    def _make(self, deadline: float) -> R:
        return self.new()

    def _make_ready(self, resource: R, deadline: float) -> R:
        return self.prepare(resource)

    def _collect(self, resource: R, deadline: float) -> None:
        self.collect_resource(resource)

    def _lend(self, resource: R) -> None:
        """Have ``resource.release()`` return it to this pool."""
        cast(_Lendable, resource).release = partial(self.release, resource)

    # Lending

    def acquire(self, block: bool = False, timeout: float | None = None) -> R:
        """Borrow one; give it back with its ``release()``.

        When all are lent: with ``block`` wait, at most ``timeout`` seconds if that is given.  The
        timeout holds for all that acquiring waits for, other pools included.

        Raises:
            LimitExceeded: none was to be had (in time).
            RuntimeError: the pool was closed.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if not block:
            deadline = -math.inf
        place = _Place[R]()
        resource: R | None = None
        try:
            self._take_place(place, deadline)
            resource = place.resource if place.resource is not None else self._make(deadline)
            resource = self._make_ready(resource, deadline)
            with self._lock:
                self._check_open()
                if self.limit:
                    self._dirty[id(resource)] = resource
            self._leave(place)
            self._lend(resource)
        except BaseException as error:
            self._give_up(place, resource, broken=isinstance(error, Exception))
            raise
        return resource

    def _take_place(self, place: _Place[R], deadline: float) -> None:
        """Wait for a place, and take the idle resource that comes with it, if there is one."""
        while True:
            bell = self._waiting.hang_up()
            try:
                with self._lock:
                    self._check_open()
                    if not self.limit or self._idle or len(self._dirty) + len(self._changing) < self.limit:
                        self._changing.add(place)
                        if self._idle:
                            place.resource = self._idle[-1]
                            del self._idle[-1]
                        return
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self.LimitExceeded(f"{self.limit}: all {self.members} of this pool are in use")
                bell.wait(None if left == math.inf else left)
            finally:
                self._waiting.take_down(bell)

    def _leave(self, place: _Place[R]) -> None:
        try:
            self._changing.discard(place)
        finally:
            self._waiting.wake()

    def _give_up(self, place: _Place[R], resource: R | None, *, broken: bool) -> None:
        """Acquiring failed or was interrupted: nobody has the resource, and its place is free."""
        if resource is None:
            resource = place.resource
        with self._lock:
            if resource is not None:
                self._dirty.pop(id(resource), None)
            sound = resource is not None and resource is place.resource and not broken and not self._closed
            if sound:
                self._idle.append(cast(R, resource))
        self._leave(place)
        if resource is not None and not sound:
            self._try(self.collect_resource if self._closed else self.close_resource, resource)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Acquire on closed pool")

    def release(self, resource: R) -> None:
        """Take one back.  Releasing it twice does no harm while nobody else has it.

        One that doesn't belong here any more (the pool was closed, reset or made smaller) is closed.
        Interrupted, it has been taken back all the same.
        """
        place = _Place[R]()
        try:
            surplus = self._take_back(resource, place)
        except Exception:
            self._leave(place)
            raise
        except BaseException:
            self._take_back(resource, place)
            raise
        if surplus:
            self.close_resource(resource)

    def _take_back(self, resource: R, place: _Place[R]) -> bool:
        """Have it among the idle again; returns whether it must be closed instead.  May be done again."""
        with self._lock:
            idle = any(other is resource for other in self._idle)
            if not idle and id(resource) in self._dirty:
                place.resource = resource
                self._changing.add(place)
                self._dirty.pop(id(resource), None)
        if not idle and place.resource is None:
            return True
        if not idle:
            self.release_resource(resource)
            with self._lock:
                held = len(self._idle) + len(self._dirty) + len(self._changing)
                idle = not self._closed and bool(self.limit) and held <= cast(int, self.limit)
                if idle:
                    self._idle.append(resource)
        self._leave(place)
        return not idle

    def replace(self, resource: R) -> None:
        """Close one that is broken; the next ``acquire`` makes another in its place."""
        try:
            self._dirty.pop(id(resource), None)
        finally:
            self._waiting.wake()
            self.close_resource(resource)

    def force_close_all(self, close_pool: bool = True) -> None:
        """Drop all resources, those in use as well; with ``close_pool`` (default) the pool can't be used again.

        Takes five seconds at the most, in which publishes under way may be confirmed, and a quarter
        of a second for each connection to a broker that does not answer.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = close_pool
            dropped = [*self._dirty.values(), *self._idle]
            self._dirty.clear()
            self._idle.clear()
        self._waiting.wake()
        deadline = time.monotonic() + CLOSE_PATIENCE
        try:
            while dropped:
                self._try(lambda resource: self._collect(resource, deadline), dropped[-1])
                del dropped[-1]
        except BaseException:
            for resource in dropped:
                self._try(self.collect_resource, resource)
            raise

    # Its size

    @property
    def limit(self) -> int | None:
        """How many there may be at a time; ``None`` or 0: any number."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self.resize(limit)

    def resize(self, limit: int | None, force: bool = False, ignore_errors: bool = False, reset: bool = False) -> None:
        """Change the limit.  ``reset`` drops all resources.

        Raises:
            RuntimeError: the pool is to shrink while resources are lent; ``force`` drops them then,
                ``ignore_errors`` waits for each to come back.
        """
        _checked(limit)
        with self._lock:
            if self._dirty and limit and (not self.limit or limit < self.limit) and not ignore_errors:
                if not force:
                    raise RuntimeError(f"Can't shrink pool when in use: was={self.limit} now={limit}")
                reset = True
            self._limit = limit
            surplus = len(self._idle) + len(self._dirty) - limit if limit else len(self._idle)
            dropped = [self._idle.pop(0) for _ in range(min(surplus, len(self._idle)))]
        self._waiting.wake()
        if reset:
            self.force_close_all(close_pool=False)
        for resource in dropped:
            self._try(self.collect_resource, resource)

    def start_afresh(self) -> None:
        """Forget everything, touching nothing: in a forked child it is the parent's."""
        self._idle, self._dirty, self._changing = [], {}, set()
        self._lock = threading.RLock()
        self._waiting = Sleepers()

    def _try(self, fn: Callable[[R], None], resource: R) -> None:
        try:
            fn(resource)
        except Exception as error:
            logger.warning("%r was dropped, not closed: %r", resource, error)


def _checked(limit: int | None) -> int | None:
    if isinstance(limit, bool):
        raise TypeError("limit must be an int, not bool")
    if limit is not None and limit < 0:
        raise ValueError(f"limit can't be {limit}; None or 0 is no limit")
    return limit
