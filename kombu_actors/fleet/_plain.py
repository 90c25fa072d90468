"""The way out: objects as JSON has them, so that any consumer reads what a fleet publishes."""

from __future__ import annotations

import base64
import dataclasses
import sys
from collections.abc import Callable, Hashable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import cast
from uuid import UUID

import attrs

from ..errors import EncodeError
from ._records import library_of

__all__ = ["to_plain"]

_DEPTH_MAX = 100
"""Levels of a body, as deep as a payload is read for a class that holds itself."""
_READY = frozenset({str, int, float, bool, type(None)})
_RAW = frozenset({str, bytes, type(None)})
_MADE = (list, tuple, set, frozenset)
Write = Callable[[object], object]


def to_plain(body: object) -> object:
    """A body as JSON has it: dataclasses, attrs, msgspec and pydantic objects as objects by the names of their fields,
    dates, ``UUID`` and ``Decimal`` as text, ``bytes`` as base64, ``timedelta`` in seconds, enums by value.

    It is what ``decoder_for`` reads back.  A body that is text or bytes goes as it is; so does what is unknown here,
    for the serializer to write or refuse.  A field that ``__init__`` doesn't take is left out.

    Raises:
        EncodeError: nested more than 100 deep, or inside itself.
    """
    return body if type(body) in _RAW else _plain(body, 0)


def _plain(value: object, depth: int) -> object:
    kind = type(value)
    if kind in _READY:
        return value
    if depth > _DEPTH_MAX:
        raise EncodeError(f"the body is nested more than {_DEPTH_MAX} deep, or holds itself")
    depth += 1
    if isinstance(value, dict):
        return {
            key if type(key) is str else _key(key): one if type(one) in _READY else _plain(one, depth)
            for key, one in value.items()
        }
    if isinstance(value, _MADE):
        return [one if type(one) in _READY else _plain(one, depth) for one in value]
    names, write = _way_of(cast(Hashable, kind))
    if names is not None:
        return {name: _plain(getattr(value, name), depth) for name in names}
    return value if write is None else _plain(write(value), depth)


def _key(key: object) -> object:
    """JSON's keys are text; what is unknown here is left to the serializer."""
    plain = _plain(key, 0)
    return str(plain) if isinstance(plain, int) and not isinstance(plain, bool) else plain


@lru_cache(maxsize=1024)  # as many classes as a program publishes
def _way_of(kind: type) -> tuple[Sequence[str] | None, Write | None]:
    """The fields of a class, or what makes its objects plainer; neither where nothing is to be done."""
    match library_of(kind):
        case "msgspec":
            to_builtins = sys.modules["msgspec"].to_builtins
            return None, lambda value: to_builtins(value, enc_hook=to_plain)
        case "pydantic":
            dump = sys.modules["pydantic"].TypeAdapter(kind).dump_python
            return None, lambda value: dump(value, mode="json", by_alias=True)
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind) if field.init], None
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init], None
    return None, next((write for known, write in _WRITERS if issubclass(kind, known)), None)


_WRITERS: tuple[tuple[type | tuple[type, ...], Write], ...] = (
    (Enum, lambda value: value.value),  # type: ignore[attr-defined]  # each is called for its own types only
    ((date, time), lambda value: value.isoformat()),  # type: ignore[attr-defined]
    ((Decimal, UUID), str),
    (timedelta, lambda value: value.total_seconds()),  # type: ignore[attr-defined]
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),  # type: ignore[arg-type]
)
