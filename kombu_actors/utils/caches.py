"""Caches with a bound, which any thread may use."""

from __future__ import annotations

from _thread import RLock
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import wraps
from itertools import islice
from typing import Any, Generic, TypeVar, cast

__all__ = ["LRUCache", "memoize"]

K = TypeVar("K")
V = TypeVar("V")


class LRUCache(MutableMapping[K, V], Generic[K, V]):
    """A mapping that forgets what was not looked up for longest, once there are more than ``limit`` items.

    Without a limit it forgets nothing.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.mutex = RLock()
        self.data: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        with self.mutex:
            value = self.data[key]
            self.data.move_to_end(key)
            return value

    def __setitem__(self, key: K, value: V) -> None:
        with self.mutex:
            if self.limit and key not in self.data and len(self.data) >= self.limit:
                self.data.popitem(last=False)
            self.data[key] = value
            self.data.move_to_end(key)

    def __delitem__(self, key: K) -> None:
        with self.mutex:
            del self.data[key]

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def __iter__(self) -> Iterator[K]:
        with self.mutex:
            return iter(list(self.data))

    def __repr__(self) -> str:
        return repr(self.data)

    def update(self, *args: Any, **kwargs: object) -> None:
        """Add or replace many; of more than fit those that were looked up or added last stay."""
        with self.mutex:
            self.data.update(*args, **kwargs)
            surplus = len(self.data) - self.limit if self.limit else 0
            for key in list(islice(self.data, max(surplus, 0))):
                del self.data[key]

    def copy(self) -> LRUCache[K, V]:
        """Another cache with the same limit and items."""
        other = type(self)(self.limit)
        with self.mutex:
            other.data.update(self.data)
        return other

    def popitem(self, last: bool = True) -> tuple[K, V]:
        """Take out the item that was looked up last, or the one that was not for longest."""
        with self.mutex:
            return self.data.popitem(last)

    def iterkeys(self) -> Iterator[K]:
        """The keys there are now."""
        return iter(self)

    def itervalues(self) -> Iterator[V]:
        """The values there are now."""
        with self.mutex:
            return iter(list(self.data.values()))

    def iteritems(self) -> Iterator[tuple[K, V]]:
        """The items there are now."""
        with self.mutex:
            return iter(list(self.data.items()))

    # As lists: others may change the cache meanwhile, and looking an item up would reorder it.
    keys: Any = iterkeys
    values: Any = itervalues
    items: Any = iteritems

    def incr(self, key: K, delta: int = 1) -> int:
        """Count a number in the cache up; it is kept as text.  Raises ``KeyError`` when it is not there."""
        with self.mutex:
            value = int(cast(str, self.data[key])) + delta
            self[key] = cast(V, str(value))
            return value

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "mutex"}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        vars(self).update(state)
        self.mutex = RLock()


def memoize(
    maxsize: int | None = None,
    keyfun: Callable[..., object] | None = None,
    Cache: Callable[..., Any] = LRUCache,
) -> Callable[[Callable[..., V]], Any]:
    """Keep a function's results, at most ``maxsize``, by its arguments or by what ``keyfun(args, kwargs)`` makes of
    them.

    The function gets ``clear()``, ``hits`` and ``misses`` since then, and ``original_func``.  Two threads that ask for
    the same at first both have it worked out.
    """

    def decorate(function: Callable[..., V]) -> Any:
        cache = Cache(limit=maxsize)

        @wraps(function)
        def remember(*args: object, **kwargs: object) -> V:
            key = keyfun(args, kwargs) if keyfun is not None else (args, frozenset(kwargs.items()))
            try:
                value: V = cache[key]
            except KeyError:
                value = cache[key] = function(*args, **kwargs)
                counts.misses += 1
            else:
                counts.hits += 1
            return value

        def clear() -> None:
            """Forget all results."""
            cache.clear()
            counts.hits = counts.misses = 0

        counts: Any = remember
        counts.hits = counts.misses = 0
        counts.clear, counts.original_func = clear, function
        return remember

    return decorate
