"""Pools: a bounded number of things, lent and taken back."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, cast

from ._forking import start_afresh_after_fork
from .errors import LimitExceeded

__all__ = ["Resource"]

CLOSE_PATIENCE = 5.0
"""Seconds for ``force_close_all``, as for a connection's ``release()``."""
R = TypeVar("R")
logger = logging.getLogger(__name__)


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
        self._lent: dict[int, R] = {}
        self._changing = 0
        """Places of resources that are being made or taken back just now."""
        self._changed = threading.Condition()
        self._closed = False
        start_afresh_after_fork(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._lent)} of {self.limit or 'any number of'} {self.members} lent>"

    # What a subclass says

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
        cast(Any, resource).close()

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
        cast(Any, resource).release = partial(self.release, resource)

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
        idle = self._take_place(deadline)
        resource = None
        try:
            resource = self._make(deadline) if idle is None else idle.pop()
            lent = self._make_ready(resource, deadline)
        except BaseException:
            self._changing_done()
            if resource is not None:
                self._try(self.close_resource, resource)
            raise
        with self._changed:
            closed = self._closed
            if self.limit and not closed:
                self._lent[id(lent)] = lent
        self._changing_done()
        if closed:
            self._try(self.collect_resource, lent)
            self._check_open()
        self._lend(lent)
        return lent

    def _take_place(self, deadline: float) -> list[R] | None:
        """Wait for a place; returns a list of the idle resource that comes with it, ``None`` without one."""
        with self._changed:
            while True:
                self._check_open()
                if not self.limit or self._idle or len(self._lent) + self._changing < self.limit:
                    self._changing += 1
                    return [self._idle.pop()] if self._idle else None
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self.LimitExceeded(f"{self.limit}: all {self.members} of this pool are in use")
                self._changed.wait(None if left == math.inf else left)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Acquire on closed pool")

    def _changing_done(self) -> None:
        with self._changed:
            self._changing -= 1
            self._changed.notify()

    def release(self, resource: R) -> None:
        """Take one back.  Releasing it twice does no harm while nobody else has it.

        One that doesn't belong here any more (the pool was closed, reset or made smaller) is closed.
        """
        with self._changed:
            if any(idle is resource for idle in self._idle):
                return
            known = self._lent.pop(id(resource), None) is not None
            self._changing += known
        if not known:
            self.close_resource(resource)
            return
        keep = False
        try:
            self.release_resource(resource)
            with self._changed:
                held = len(self._idle) + len(self._lent) + self._changing
                keep = not self._closed and bool(self.limit) and held <= cast(int, self.limit)
                if keep:
                    self._idle.append(resource)
        finally:
            self._changing_done()
        if not keep:
            self.close_resource(resource)

    def replace(self, resource: R) -> None:
        """Close one that is broken; the next ``acquire`` makes another in its place."""
        with self._changed:
            self._lent.pop(id(resource), None)
            self._changed.notify()
        self.close_resource(resource)

    def force_close_all(self, close_pool: bool = True) -> None:
        """Drop all resources, those in use as well; with ``close_pool`` (default) the pool can't be used again.

        Takes five seconds at the most, in which publishes under way may be confirmed, and a quarter
        of a second for each connection to a broker that does not answer.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = close_pool
            dropped = [*self._lent.values(), *self._idle]
            self._lent.clear()
            self._idle.clear()
            self._changed.notify_all()
        deadline = time.monotonic() + CLOSE_PATIENCE
        for resource in dropped:
            self._try(lambda resource: self._collect(resource, deadline), resource)

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
        with self._changed:
            if self._lent and limit and (not self.limit or limit < self.limit) and not ignore_errors:
                if not force:
                    raise RuntimeError(f"Can't shrink pool when in use: was={self.limit} now={limit}")
                reset = True
            self._limit = limit
            surplus = len(self._idle) + len(self._lent) - limit if limit else len(self._idle)
            dropped = [self._idle.pop(0) for _ in range(min(surplus, len(self._idle)))]
            self._changed.notify_all()
        if reset:
            self.force_close_all(close_pool=False)
        for resource in dropped:
            self._try(self.collect_resource, resource)

    def start_afresh(self) -> None:
        """Forget everything, touching nothing: in a forked child it is the parent's."""
        self._idle, self._lent, self._changing = [], {}, 0
        self._changed = threading.Condition()

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
