"""Properties that are worked out once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

from .._bridge.forking import SharedLock

__all__ = ["cached_property"]

T = TypeVar("T")


class cached_property(Generic[T]):
    """A property that is worked out at its first use and kept in the object's ``__dict__``.

    One thread at a time works it out.  Assigning replaces the value (``@name.setter`` may say what is stored), deleting
    has it worked out again (``@name.deleter`` is told of the value that goes).
    """

    def __init__(
        self,
        fget: Callable[..., T] | None = None,
        fset: Callable[..., object] | None = None,
        fdel: Callable[..., object] | None = None,
    ) -> None:
        self.func = fget
        self.attrname: str | None = None
        self.__doc__ = fget.__doc__ if fget is not None else None
        self.__module__ = fget.__module__ if fget is not None else __name__
        self._set, self._delete = fset, fdel
        self._lock = SharedLock()

    def __set_name__(self, owner: type, name: str) -> None:
        self.attrname = name

    def _values(self, instance: object) -> tuple[dict[str, Any], str]:
        if self.attrname is None:
            raise TypeError("Cannot use cached_property instance without calling __set_name__ on it.")
        try:
            return vars(instance), self.attrname
        except TypeError:
            raise TypeError(
                f"{type(instance).__name__} objects have no __dict__ to keep {self.attrname!r} in"
            ) from None

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...
    def __get__(self, instance: object, owner: type | None = None) -> T | Self:
        if instance is None:
            return self
        values, name = self._values(instance)
        if name not in values:
            if self.func is None:
                raise AttributeError(f"unreadable attribute {name!r}")
            with self._lock.held:
                if name not in values:
                    values[name] = self.func(instance)
        kept: T = values[name]
        return kept

    def __set__(self, instance: object | None, value: object) -> Self | None:
        if instance is None:
            return self
        values, name = self._values(instance)
        with self._lock.held:
            values[name] = value if self._set is None else self._set(instance, value)
        return None

    def __delete__(self, instance: object | None) -> Self | None:
        if instance is None:
            return self
        values, name = self._values(instance)
        with self._lock.held:
            if name in values:
                value = values.pop(name)
                if self._delete is not None:
                    self._delete(instance, value)
        return None

    def setter(self, fset: Callable[..., object]) -> Self:
        """Have ``fset(object, value)`` say what is stored when the attribute is assigned."""
        return type(self)(self.func, fset, self._delete)

    def deleter(self, fdel: Callable[..., object]) -> Self:
        """Have ``fdel(object, value)`` called when the attribute is deleted."""
        return type(self)(self.func, self._set, fdel)
