"""Immutable records of which there are many kinds, for nearly nothing a kind."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

__all__ = ["Frozen", "Record"]


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
    _read: ClassVar[attrgetter[tuple[object, ...]]]
    """The kind, and the values of all fields, as one tuple."""

    def __init_subclass__(cls) -> None:
        own = [name for name in inspect.get_annotations(cls) if name not in cls.fields]
        cls.fields = (*cls.fields, *own)
        cls._known = frozenset(cls.fields)
        # A default is an attribute of the class.
        cls._required = frozenset(name for name in cls.fields if not hasattr(cls, name))
        cls._read = attrgetter("__class__", *cls.fields)

    def __init__(self, *unnamed: object, **values: object) -> None:
        if unnamed:
            raise TypeError(f"{type(self).__name__} takes its arguments by name: {', '.join(self.fields)}")
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


_new = tuple.__new__
_Sixteen = namedtuple("_Sixteen", "a b c d e f g h i j k l m n o p")
_GETTERS = [vars(_Sixteen)[name] for name in _Sixteen._fields]
"""What reads a field of a tuple by its place, in C, whatever kind of tuple that is.  No record has more fields."""


class _Kind(type):
    """Has a class read its annotated fields from the tuple that an instance is."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _Kind:
        fields = tuple(namespace.get("__annotations__", ())) if bases != (tuple,) else ()
        defaults = {field: namespace[field] for field in fields if field in namespace}
        namespace.update(zip(fields, _GETTERS[: len(fields)], strict=True))
        namespace.update(__slots__=(), __match_args__=fields, _defaults=defaults, fields=fields)
        return super().__new__(cls, name, bases, namespace)


@dataclass_transform(frozen_default=True)
class Record(tuple[Any, ...], metaclass=_Kind):
    """What ``typing.NamedTuple`` makes of annotations: a tuple, compared and hashed in C, whose fields have names.

    ``NamedTuple`` compiles a constructor for each class, and each annotation that is text, a sixth of a millisecond a
    class: for the 70 that a first connection needs that was a tenth of what a process pays for it.  Here there is one
    constructor for all.  It is nearly as fast where fields are given in their order; where each message needs one,
    ``tuple.__new__`` is faster than either.

    Modules with records postpone their annotations (``from __future__``), of which only the names are looked at.
    """

    fields: ClassVar[tuple[str, ...]]
    _defaults: ClassVar[Mapping[str, Any]]

    def __new__(cls, *values: object, **named: object) -> Self:
        if named or len(values) != len(cls.fields):
            values += cls._others(values, named)
        return _new(cls, values)

    @classmethod
    def _others(cls, values: tuple[object, ...], named: dict[str, object]) -> tuple[object, ...]:
        try:
            defaults = cls._defaults
            others = [named.pop(name) if name in named else defaults[name] for name in cls.fields[len(values) :]]
        except KeyError as missing:
            raise TypeError(f"{cls.__name__} takes {', '.join(cls.fields)}: {missing} is missing") from None
        if named or len(values) > len(cls.fields):
            raise TypeError(f"{cls.__name__} takes {', '.join(cls.fields)}: too much are {[*named] or values}")
        return tuple(others)

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For pickle and copy."""
        return tuple(self)

    def but(self, **changes: object) -> Self:
        """The same record with other values."""
        record = _new(type(self), map(changes.pop, self.fields, self))
        if changes:
            raise TypeError(f"{type(self).__name__} has no {', '.join(changes)}")
        return record

    def by_name(self) -> dict[str, Any]:
        """What it holds, by the names of its fields."""
        return dict(zip(self.fields, self, strict=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.by_name().items())})"
