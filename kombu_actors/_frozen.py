"""Immutable records of which there are many kinds, for nearly nothing a kind."""

from __future__ import annotations

import inspect
from operator import attrgetter
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

__all__ = ["Frozen"]


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Frozen:
    """What ``attrs.frozen(kw_only=True)`` makes of annotations: arguments by name, ``==``, a hash and a repr.

    attrs compiles these methods for each class, half a millisecond to a whole one each time: for those that a first
    connection needs that was an eighth of what a process pays for it.  Here they are written once, and inherited.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    """The names of what a record of this kind holds, inherited ones first."""
    hidden: ClassVar[tuple[str, ...]] = ()
    """Those of them that a repr leaves out: secrets, and what is long."""
    _required: ClassVar[frozenset[str]] = frozenset()
    _known: ClassVar[frozenset[str]] = frozenset()
    _read: ClassVar[attrgetter[Any]]
    """The kind, and the values of all fields, as one tuple."""

    def __init_subclass__(cls) -> None:
        own = [name for name in inspect.get_annotations(cls) if name not in cls.fields]
        cls.fields = (*cls.fields, *own)
        cls._known = frozenset(cls.fields)
        # A default is an attribute of the class.
        cls._required = frozenset(name for name in cls.fields if not hasattr(cls, name))
        cls._read = attrgetter("__class__", *cls.fields)

    def __init__(self, **values: object) -> None:
        given = values.keys()
        if not (self._required <= given <= self._known):
            wrong = [f"{name} is missing" for name in sorted(self._required - given)]
            wrong += [f"it has no {name}" for name in sorted(given - self._known)]
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.fields)}: {', '.join(wrong)}")
        self.__dict__.update(values)
        self.settle()

    def settle(self) -> None:
        """Check what was given, and bring it into the form in which it is kept (in ``vars(self)``)."""

    def but(self, **changes: object) -> Self:
        """The same record with other values; what a ``cached_property`` has kept stays with this one."""
        held = {name: value for name, value in self.__dict__.items() if name in self._known}
        return type(self)(**{**held, **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} stays as it is")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} stays as it is")

    def identity(self) -> object:
        """What makes two records equal: by default their kind and all that they hold."""
        return self._read(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(self.identity())

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.fields if name not in self.hidden]
        return f"{type(self).__name__}({', '.join(shown)})"
