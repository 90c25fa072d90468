"""Decoding of AMQP values, tables and argument lists, bounded everywhere.

Every claimed length is checked against the bytes that are left, nesting ends at ``MAX_NESTING``,
an unknown field type is an error: only ``PeerProtocolError`` leaves this module.  The field type
letters are RabbitMQ's (https://www.rabbitmq.com/amqp-0-9-1-errata, section 3) plus the ones
py-amqp writes (``L``, ``U``).

Text is UTF-8.  What is not is kept without loss: ``surrogateescape`` for short strings and keys,
``bytes`` for long strings inside tables (as py-amqp does); a foreign publisher's routing key must
not be able to kill the connection that reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from .._content import MAX_NESTING
from .errors import PeerProtocolError

__all__ = ["read_arguments", "read_short_string", "read_table"]

_U8: Final = struct.Struct(">B")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_STRING: Final = ord("S")
_VOID: Final = ord("V")
Arguments = tuple[Any, ...]
"""What a method carries; the kinds are its layout's (``protocols.amqp.methods``)."""
Table = dict[str, object]
"""A field table: what it holds is up to who sent it."""
_Reader = Callable[[bytes, int, int, int], tuple[object, int]]


def _short(position: int) -> PeerProtocolError:
    return PeerProtocolError(502, f"a value at byte {position} claims more bytes than its frame has")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def read_short_string(data: bytes, position: int, end: int) -> tuple[str, int]:
    """Read a short string (one length byte); return it and the position after it."""
    if position >= end:
        raise _short(position)
    stop = position + 1 + data[position]
    if stop > end:
        raise _short(position)
    return _text(data[position + 1 : stop]), stop


def _read_blob(data: bytes, position: int, end: int, depth: int = 0) -> tuple[bytes, int]:
    start = position + 4
    if start > end:
        raise _short(position)
    stop = start + _U32.unpack_from(data, position)[0]
    if stop > end:
        raise _short(position)
    return data[start:stop], stop


def _read_long_string(data: bytes, position: int, end: int, depth: int) -> tuple[str | bytes, int]:
    raw, position = _read_blob(data, position, end)
    try:
        return raw.decode(), position
    except UnicodeDecodeError:
        return raw, position


def _fixed(code: str) -> _Reader:
    form = struct.Struct(f">{code}")

    def read(data: bytes, position: int, end: int, depth: int) -> tuple[object, int]:
        stop = position + form.size
        if stop > end:
            raise _short(position)
        return form.unpack_from(data, position)[0], stop

    return read


def _read_bool(data: bytes, position: int, end: int, depth: int) -> tuple[bool, int]:
    if position >= end:
        raise _short(position)
    return data[position] != 0, position + 1


def _read_decimal(data: bytes, position: int, end: int, depth: int) -> tuple[Decimal, int]:
    stop = position + 5
    if stop > end:
        raise _short(position)
    scale, value = struct.unpack_from(">Bi", data, position)
    return Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -scale)), stop


def _read_timestamp(data: bytes, position: int, end: int, depth: int) -> tuple[datetime | int, int]:
    stop = position + 8
    if stop > end:
        raise _short(position)
    seconds: int = _U64.unpack_from(data, position)[0]
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=None), stop
    except (OverflowError, ValueError, OSError):
        return seconds, stop  # beyond year 9999: a number still tells what was sent


def _read_void(data: bytes, position: int, end: int, depth: int) -> tuple[None, int]:
    return None, position


def read_table(data: bytes, position: int, end: int, depth: int = 1) -> tuple[Table, int]:
    """Read a table with its length prefix; return it and the position after it."""
    position, stop = _enter(data, position, end, depth)
    table: Table = {}
    while position < stop:
        # ``read_short_string`` and ``_read_value``, without their calls for what most headers of a task are.
        start = position + 1 + data[position]
        if start >= stop:
            raise _short(position)
        key = data[position + 1 : start].decode("utf-8", "surrogateescape")
        kind = data[start]
        if kind == _STRING:
            blob, position = _read_blob(data, start + 1, stop)
            try:
                table[key] = blob.decode()
            except UnicodeDecodeError:
                table[key] = blob
        elif kind == _VOID:
            table[key], position = None, start + 1
        else:
            table[key], position = _read_value(data, start, stop, depth)
    return table, stop


def _read_array(data: bytes, position: int, end: int, depth: int) -> tuple[list[object], int]:
    position, stop = _enter(data, position, end, depth)
    array: list[object] = []
    while position < stop:
        value, position = _read_value(data, position, stop, depth)
        array.append(value)
    return array, stop


def _enter(data: bytes, position: int, end: int, depth: int) -> tuple[int, int]:
    if depth > MAX_NESTING:
        raise PeerProtocolError(502, f"tables are nested more than {MAX_NESTING} deep")
    start = position + 4
    if start > end:
        raise _short(position)
    stop = start + _U32.unpack_from(data, position)[0]
    if stop > end:
        raise _short(position)
    return start, stop


def _read_value(data: bytes, position: int, end: int, depth: int) -> tuple[object, int]:
    if position >= end:
        raise _short(position)
    reader = _VALUES.get(data[position])
    if reader is None:
        raise PeerProtocolError(502, f"unknown field type {bytes([data[position]])!r} in a table")
    return reader(data, position + 1, end, depth + 1)


_VALUES: Final[dict[int, _Reader]] = {
    ord("S"): _read_long_string,
    ord("x"): _read_blob,
    ord("F"): read_table,
    ord("A"): _read_array,
    ord("t"): _read_bool,
    ord("b"): _fixed("b"),
    ord("B"): _fixed("B"),
    ord("s"): _fixed("h"),
    ord("U"): _fixed("h"),
    ord("u"): _fixed("H"),
    ord("I"): _fixed("i"),
    ord("i"): _fixed("I"),
    ord("l"): _fixed("q"),
    ord("L"): _fixed("q"),
    ord("f"): _fixed("f"),
    ord("d"): _fixed("d"),
    ord("D"): _read_decimal,
    ord("T"): _read_timestamp,
    ord("V"): _read_void,
}


def read_arguments(layout: str, data: bytes, position: int, end: int) -> Arguments:
    """Read a method's arguments, which must fill ``data[position:end]`` exactly.

    ``layout`` has py-amqp's letters: ``b`` bit, ``o`` octet, ``B`` short, ``l`` long, ``L`` long long,
    ``s`` short string, ``S`` long string (as ``bytes``), ``F`` table.
    """
    values: list[object] = []
    bits_left = bits = 0
    for letter in layout:
        if letter == "b":
            if not bits_left:
                if position >= end:
                    raise _short(position)
                bits, position, bits_left = data[position], position + 1, 8
            values.append(bool(bits & 1))
            bits, bits_left = bits >> 1, bits_left - 1
            continue
        bits_left = 0
        value, position = _ARGUMENTS[letter](data, position, end, 0)
        values.append(value)
    if position != end:
        raise PeerProtocolError(502, f"{end - position} bytes too many in the arguments of a method")
    return tuple(values)


_ARGUMENTS: Final[dict[str, _Reader]] = {
    "o": _fixed("B"),
    "B": _fixed("H"),
    "l": _fixed("I"),
    "L": _fixed("Q"),
    "s": lambda data, position, end, depth: read_short_string(data, position, end),
    "S": _read_blob,
    "F": lambda data, position, end, depth: read_table(data, position, end),
}
