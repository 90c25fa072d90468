"""What decoders of more than one value are made of: arrays, objects, unions.  Each level says where an error was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from ._plans import Decode
from ._records import constructed
from ._scalars import literal_decoder, wrong
from .errors import PayloadError

__all__ = [
    "DEPTH_MAX",
    "Step",
    "bounded",
    "by_form",
    "by_tag",
    "collected",
    "dict_of",
    "list_of",
    "or_null",
    "record",
    "tuple_of",
    "typed_dict",
]

Step = tuple[str, str, Decode, bool]
"""A field: its name in the payload and in ``__init__``, its decoder, whether it must be there."""
DEPTH_MAX = 100
"""Levels of arrays and objects in a payload for a class that holds itself: more is nobody's data, and would end in
Python's own limit, wherever that strikes."""
_ABSENT = object()


def or_null(decode: Decode) -> Decode:
    def decode_or_null(payload: object, /) -> object:
        return None if payload is None else decode(payload)

    return decode_or_null


def by_form(objects: Decode | None, arrays: Sequence[Decode], others: Sequence[Decode], expected: str) -> Decode:
    """The first of a union that fits; where only one has the payload's form, its error says where."""
    array = arrays[0] if len(arrays) == 1 else None

    def decode(payload: object, /) -> object:
        if objects is not None and isinstance(payload, dict):
            return objects(payload)
        if array is not None and isinstance(payload, list | tuple):
            return array(payload)
        for step in others:
            try:
                return step(payload)
            except PayloadError:
                continue
        raise wrong(expected, payload)

    return decode


def by_tag(name: str, table: Mapping[object, Decode]) -> Decode:
    choose = literal_decoder(tuple(table))

    def decode(payload: object, /) -> object:
        if not isinstance(payload, dict):
            raise wrong("an object", payload)
        try:
            tag = choose(payload[name]) if name in payload else _missing()
        except PayloadError as error:
            error.within(name)
            raise
        return table[tag](payload)

    return decode


def _missing() -> object:
    raise PayloadError("missing, and it has no default")


def list_of(item: Decode) -> Decode:
    def decode(payload: object, /) -> object:
        if not isinstance(payload, list | tuple):
            raise wrong("an array", payload)
        made: list[object] = []
        try:
            for one in payload:
                made.append(item(one))  # their number says where it failed
        except PayloadError as error:
            error.within(len(made))
            raise
        return made

    return decode


def collected(item: Decode, collect: Callable[[list[object]], object]) -> Decode:
    """Sets, and tuples of any length: a set is taken as it is, too, from a serializer that has sets."""
    listed = list_of(item)

    def decode(payload: object, /) -> object:
        found = listed([*payload] if isinstance(payload, set | frozenset) else payload)
        try:
            return collect(cast("list[object]", found))
        except TypeError:
            raise PayloadError("expected values that a set can hold, got an object or an array in it") from None

    return decode


def tuple_of(items: Sequence[Decode]) -> Decode:
    def decode(payload: object, /) -> object:
        if not isinstance(payload, list | tuple) or len(payload) != len(items):
            raise wrong(f"an array of {len(items)}", payload)
        made: list[object] = []
        try:
            for one, item in zip(payload, items, strict=True):
                made.append(item(one))
        except PayloadError as error:
            error.within(len(made))
            raise
        return tuple(made)

    return decode


def dict_of(key: Decode, value: Decode) -> Decode:
    def decode(payload: object, /) -> object:
        if not isinstance(payload, dict):
            raise wrong("an object", payload)
        made: dict[object, object] = {}
        name: object = None
        try:
            for name, one in payload.items():
                made[key(name)] = value(one)
        except PayloadError as error:
            error.within(str(name))
            raise
        return made

    return decode


def record(kind: type, steps: Sequence[Step]) -> Decode:
    """For attrs classes and dataclasses."""
    expected = kind.__name__

    def decode(payload: object, /) -> object:
        if not isinstance(payload, dict):
            if isinstance(payload, kind):
                return payload
            raise wrong(f"an object ({expected})", payload)
        return constructed(kind, _taken(payload, steps))

    return decode


def typed_dict(kind: type, steps: Sequence[Step]) -> Decode:
    expected = kind.__name__

    def decode(payload: object, /) -> object:
        if not isinstance(payload, dict):
            raise wrong(f"an object ({expected})", payload)
        return _taken(payload, steps)

    return decode


def _taken(payload: dict[object, object], steps: Sequence[Step]) -> dict[str, object]:
    """The fields of a class out of an object."""
    made: dict[str, object] = {}
    name = ""
    try:
        for name, argument, step, required in steps:
            value = payload.get(name, _ABSENT)
            if value is not _ABSENT:
                made[argument] = step(value)
            elif required:
                _missing()
    except PayloadError as error:
        error.within(name)
        raise
    return made


def bounded(decode: Decode) -> Decode:
    def decode_bounded(payload: object, /) -> object:
        level: list[object] = [payload]
        for _ in range(DEPTH_MAX):
            level = [one for value in level for one in _inside(value)]
            if not level:
                return decode(payload)
        raise PayloadError(f"nested more than {DEPTH_MAX} deep")

    return decode_bounded


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list | tuple) else ()
