"""Pools by what they are for, and what holds for all of them."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Final, Protocol, TypeVar

from .._bridge.forking import start_afresh_after_fork

__all__ = ["PoolGroup", "get_limit", "register_group", "reset", "set_limit", "use_global_limit"]

DEFAULT_LIMIT = 10
"""kombu's default for ``connections`` and ``producers``."""


class Pool(Protocol):
    """A ``Resource``, to its group."""

    def resize(self, limit: int, force: bool = False, ignore_errors: bool = False, reset: bool = False) -> None:
        """Change how many may be lent."""

    def force_close_all(self) -> None:
        """Close all, those that are lent as well."""


class _GlobalLimit:
    __slots__ = ()


use_global_limit: Final = _GlobalLimit()
"""Stands for the limit that ``set_limit`` sets."""


class PoolGroup(dict[object, Any]):
    """Pools by what they are for, made when first asked for; ``create(resource, limit)`` makes one.

    Resources that are equal by their ``__eqhash__()`` share one.
    """

    def __init__(self, limit: int | _GlobalLimit | None = None, close_after_fork: bool = True) -> None:
        super().__init__()
        self.limit = limit
        self.close_after_fork = close_after_fork
        self._lock = threading.RLock()
        start_afresh_after_fork(self)

    __hash__ = object.__hash__  # type: ignore[assignment]  # dict has none; the group is one thing, whatever it holds

    def create(self, resource: Any, limit: int | None) -> Pool:
        """Make the pool for a resource."""
        raise NotImplementedError(
            f"{type(self).__name__} must say how to make a pool: def create(self, resource, limit)"
        )

    def __getitem__(self, resource: object) -> Any:
        key = _eqhash(resource)
        with self._lock:
            if not super().__contains__(key):
                limit = get_limit() if isinstance(self.limit, _GlobalLimit) else self.limit
                super().setdefault(key, self.create(resource, limit))  # a signal handler may have made one meanwhile
            return super().__getitem__(key)

    def __setitem__(self, resource: object, pool: object) -> None:
        super().__setitem__(_eqhash(resource), pool)

    def __delitem__(self, resource: object) -> None:
        super().__delitem__(_eqhash(resource))

    def __contains__(self, resource: object) -> bool:
        return super().__contains__(_eqhash(resource))

    def start_afresh(self) -> None:
        """Forget the pools: in a forked child they are the parent's."""
        self._lock = threading.RLock()
        self.clear()


def _eqhash(resource: object) -> object:
    return resource.__eqhash__() if hasattr(resource, "__eqhash__") else resource


class _Settings:
    """What holds for all groups."""

    limit: ClassVar[int] = DEFAULT_LIMIT
    groups: ClassVar[list[PoolGroup]] = []


G = TypeVar("G", bound=PoolGroup)


def register_group(group: G) -> G:
    """Have ``set_limit`` and ``reset`` reach this group, too."""
    _Settings.groups.append(group)
    return group


def _all_pools() -> list[Pool]:
    return [pool for group in _Settings.groups for pool in list(group.values())]


def get_limit() -> int:
    """How many resources each pool of the groups may have."""
    return _Settings.limit


def set_limit(limit: int | None, force: bool = False, reset_after: bool = False, ignore_errors: bool = False) -> int:
    """Change the limit of all pools, present and future; ``None`` or 0 is no limit.

    Raises:
        RuntimeError: a pool would shrink while it is in use; see ``Resource.resize``.
    """
    if isinstance(limit, bool):
        raise TypeError("limit must be an int, not bool")
    limit = limit or 0
    if limit != _Settings.limit:
        for pool in _all_pools():
            pool.resize(limit, force=force, ignore_errors=ignore_errors, reset=reset_after)
        _Settings.limit = limit
    return limit


def reset(*args: object, **kwargs: object) -> None:
    """Drop all pools with all that is in them; the next use makes new ones."""
    pools = _all_pools()
    for group in _Settings.groups:
        group.clear()
    for pool in pools:
        pool.force_close_all()
