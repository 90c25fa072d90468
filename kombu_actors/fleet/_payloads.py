"""From what a serializer made of a body to what a handler's annotation says; compiled once for each handler.

Annotations: builtins and their collections, ``datetime`` and its kin, ``UUID``, ``Decimal``, ``bytes``, enums,
``Literal``, unions, ``TypedDict``, dataclasses, attrs classes; msgspec's and pydantic's are left to those libraries.

* Strict where JSON is: ``"3"`` is no ``int``.  What JSON has no form for comes as text (dates as ISO 8601, ``Decimal``
  as digits, ``bytes`` as base64), a ``timedelta`` in seconds; what a richer serializer made is taken as it is.
* A field that is missing and has no default is an error.  One that is unknown is ignored: so a producer can send a new
  field before each consumer knows it.
* A class that holds itself is followed 100 levels deep.

This is our own, and not cattrs, attrs' companion, which is what a program should use otherwise: its JSON converter
makes ``"3"`` of 3 and 3 of ``"3"`` unless each type is given a hook; to know the place of an error costs it twice the
time for each message that has none; what came instead is not in its text; and msgspec, pydantic and the bound of
nesting would be ours anyway.
"""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs

from ._annotations import described, stripped
from ._plans import Decode
from ._records import fields_of, is_typed_dict, library_of, tags_of, typed_by_library
from ._scalars import as_is, enum_decoder, key_decoder, literal_decoder, scalar_decoder
from ._shapes import bounded, by_form, by_tag, collected, dict_of, list_of, or_null, record, tuple_of, typed_dict
from .errors import FleetMistake

__all__ = ["decode_as", "decoder_for"]

T = TypeVar("T")

_LISTS = {list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable}
_SETS: dict[object, Callable[[list[object]], object]] = {
    set: set, abc.Set: set, abc.MutableSet: set, frozenset: frozenset,
}  # fmt: skip
_DICTS = {dict, abc.Mapping, abc.MutableMapping}


def decoder_for(annotation: object, where: str, names: Mapping[str, object] | None = None) -> Decode | None:
    """The decoder for an annotation; None where the payload is to be left as it is (``object``, ``Any``).

    Args:
        where: how a mistake names the place, ``shop.charge(order)``.
        names: where classes look for names that their own module doesn't have.

    Raises:
        FleetMistake: no payload can be such a thing.
    """
    compiler = _Compiler(names)
    try:
        decode = compiler.decoder(annotation, where)
    except RecursionError:
        raise FleetMistake(f"{where}: {described(annotation)} names itself; give it a class that does so") from None
    if decode is as_is:
        return None
    return bounded(decode) if compiler.recursive else decode


def decode_as(kind: type[T], payload: object) -> T:
    """What was deserialized, made into a ``kind``; for one that was not asked for by an annotation.

    Raises:
        PayloadError: it is not what ``kind`` says.
        FleetMistake: no payload can be a ``kind``.
    """
    decode = _decoder_of(cast(abc.Hashable, kind))
    return cast(T, payload if decode is None else decode(payload))


@lru_cache(maxsize=256)  # as many types as a program names in its handlers
def _decoder_of(kind: abc.Hashable) -> Decode | None:
    return decoder_for(kind, described(kind))


@attrs.define
class _Compiler:
    """Makes the decoders of one annotation; a class that is met again while it is made is referred to."""

    names: Mapping[str, object] | None
    recursive: bool = False
    _made: dict[object, Decode | None] = attrs.field(factory=dict, init=False)

    def decoder(self, annotation: object, where: str) -> Decode:
        kind = stripped(annotation, where)
        if type(kind).__hash__ is None:
            raise _mistake(kind, where)
        scalar = as_is if kind is Any else scalar_decoder(kind)
        if scalar is not None:
            return scalar
        origin = get_origin(kind) or kind
        arguments = get_args(kind)
        if origin is Literal:
            return literal_decoder(arguments)
        if origin in (Union, types.UnionType):
            return self._union(arguments, where)
        if origin in _LISTS:
            return list_of(self.decoder(arguments[0] if arguments else object, where))
        if origin in _SETS:
            return collected(self.decoder(arguments[0] if arguments else object, where), _SETS[origin])
        if origin is tuple:
            return self._tuple(arguments, where)
        if origin in _DICTS:
            return self._dict(*(arguments or (object, object)), where=where)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return enum_decoder(kind, where)
        if isinstance(kind, type):
            return self._class(kind, where)
        raise _mistake(kind, where)

    def _tuple(self, arguments: tuple[object, ...], where: str) -> Decode:
        match arguments:
            case (one, last) if last is Ellipsis:
                return collected(self.decoder(one, where), tuple)
            case ():
                return collected(as_is, tuple)
        return tuple_of([self.decoder(one, where) for one in arguments])

    def _dict(self, key: object, value: object, *, where: str) -> Decode:
        plain = self.decoder(key, where)
        return dict_of(key_decoder(stripped(key, where), plain, where), self.decoder(value, where))

    def _class(self, kind: type, where: str) -> Decode:
        if kind in self._made:
            return self._made[kind] or self._later(kind)
        library = library_of(kind)
        if library is not None:
            return typed_by_library(library, kind, where)
        self._made[kind] = None
        fields = fields_of(kind, self.names)
        if fields is None:
            raise _mistake(kind, where)
        steps = [
            (one.name, one.argument, self.decoder(one.annotation, f"{kind.__name__}.{one.name}"), one.required)
            for one in fields
        ]
        decode = (typed_dict if is_typed_dict(kind) else record)(kind, steps)
        self._made[kind] = decode
        return decode

    def _later(self, kind: type) -> Decode:
        self.recursive = True
        made = self._made

        def decode(payload: object, /) -> object:
            step = made[kind]
            assert step is not None  # by the time that there are payloads
            return step(payload)

        return decode

    def _union(self, members: Sequence[object], where: str) -> Decode:
        kinds = [stripped(one, where) for one in members]
        null = any(kind in (None, type(None)) for kind in kinds)
        # 1 is good for a float, too: so that it stays an integer, int is asked first.
        kinds = sorted((kind for kind in kinds if kind not in (None, type(None))), key=lambda kind: kind is float)
        objects = [kind for kind in kinds if _is_object(kind)]
        arrays = [self.decoder(kind, where) for kind in kinds if (get_origin(kind) or kind) in _ARRAYS]
        steps = [self.decoder(kind, where) for kind in kinds if kind not in objects]
        told_apart = self._objects(objects, where) if objects else None
        if told_apart is not None:
            steps.append(told_apart)
        decode = steps[0] if len(steps) == 1 else by_form(told_apart, arrays, steps, " | ".join(map(described, kinds)))
        return or_null(decode) if null else decode

    def _objects(self, kinds: Sequence[object], where: str) -> Decode:
        """One decoder for all of a union that is an object in JSON."""
        if len(kinds) == 1:
            return self.decoder(kinds[0], where)
        libraries = {library_of(kind) for kind in kinds}
        if len(libraries) == 1 and (library := libraries.pop()) is not None:
            return typed_by_library(library, Union[tuple(kinds)], where)  # noqa: UP007  # made at run time
        tags = [tags_of(kind, self.names) if isinstance(kind, type) else {} for kind in kinds]
        for name in tags[0]:
            values = [value for each in tags for value in each.get(name, ())]
            if all(name in each for each in tags) and len(set(values)) == len(values):
                decoders = [self.decoder(kind, where) for kind in kinds]
                table = {value: made for each, made in zip(tags, decoders, strict=True) for value in each[name]}
                return by_tag(name, table)
        raise FleetMistake(
            f"{where}: {' and '.join(map(described, kinds))} are all objects in JSON and can't be told apart; give each"
            " a field of one name with its own value, as in `kind: Literal['created']`"
        )


_ARRAYS = {*_LISTS, *_SETS, tuple}


def _is_object(kind: object) -> bool:
    """Whether JSON writes it as an object."""
    if (get_origin(kind) or kind) in _DICTS:
        return True
    if not isinstance(kind, type) or issubclass(kind, Enum):
        return False
    return scalar_decoder(kind) is None and kind not in _ARRAYS


def _mistake(kind: object, where: str) -> FleetMistake:
    return FleetMistake(
        f"{where}: a payload can't be made into {described(kind)}; use builtins, a dataclass, an attrs, msgspec or"
        " pydantic class, a TypedDict, or `object` for what came"
    )
