"""Immutable records of which there are many kinds, for nearly nothing a kind."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

__all__ = ["Frozen"]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Frozen:
    """What ``attrs.frozen(kw_only=True)`` makes of annotations: arguments by name, ``==``, a hash and a repr.

    attrs compiles these methods for each class, half a millisecond each time: for two dozen kinds of events that was a
    good part of what a process pays for its first connection.  Here they are written once, and inherited.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    """The names of what a record of this kind holds, inherited ones first."""
    _required: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own = [name for name in inspect.get_annotations(cls) if name not in cls.fields]
        cls.fields = (*cls.fields, *own)
        # A default is an attribute of the class.
        cls._required = frozenset(name for name in cls.fields if not hasattr(cls, name))

    def __init__(self, **values: Any) -> None:
        given = values.keys()
        if not (self._required <= given <= set(self.fields)):
            wrong = [f"{name} is missing" for name in sorted(self._required - given)]
            wrong += [f"it has no {name}" for name in sorted(given - set(self.fields))]
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.fields)}: {', '.join(wrong)}")
        self.__dict__.update(values)

    def but(self, **changes: Any) -> Self:
        """The same record with other values."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} stays as it is")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} stays as it is")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        pairs = zip(self.fields, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.fields)
