"""What every AMQP 0-9-1 broker accepts as a message, checked before a byte is sent.

A message that breaks one of these rules costs its sender a channel or, at RabbitMQ, the whole
connection; here it costs a ``ValueError`` that names the argument.  All transports share the
rules, so that code which works on ``memory://`` works on ``amqp://``.

The rules of ``validate_content``; ``None`` for a property means that it is absent:

* ``exchange``, ``routing_key`` and the properties ``content_type``, ``content_encoding``,
  ``correlation_id``, ``reply_to``, ``expiration``, ``message_id``, ``type``, ``user_id``, ``app_id``
  and ``cluster_id`` are ``str`` of at most 255 bytes of UTF-8 (a short string, spec 4.2.5.3);
* no other property names exist, apart from those below;
* ``delivery_mode`` is 1 (transient) or 2 (persistent);
* ``priority`` is an int from 0 to 255;
* ``timestamp`` is an int of whole seconds, 0 to 2**63 - 1;
* ``expiration`` is decimal digits, milliseconds from 0 to 315360000000 (ten years, RabbitMQ's longest timer);
* ``headers`` is a mapping; its keys, nested ones too, are short strings; its values are ``None``,
  ``bool``, ``int`` within 64 signed bits, ``float``, ``Decimal`` (32 signed bits, at most 255
  decimals), ``str``, ``bytes``, ``datetime`` from 1970 on, mappings, lists and tuples; nested at
  most 32 deep;
* the headers ``CC`` and ``BCC``, which RabbitMQ reads as more routing keys, are lists;
* headers and properties together fit the one frame that carries them (spec 4.2.6.1).

Strings must be encodable: a lone surrogate is refused, because nobody could decode it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NoReturn

from ..errors import UnknownProperty

__all__ = [
    "MAX_EXPIRATION",
    "MAX_FRAME",
    "MAX_NESTING",
    "PROPERTY_NAMES",
    "SHORT_STRING_PROPERTIES",
    "check_short_string",
    "check_table",
    "refuse_size",
    "validate_content",
]

MAX_SHORT_STRING: Final = 255
MAX_EXPIRATION: Final = 315_360_000_000
MAX_NESTING: Final = 32
"""Deeper tables help nobody and cost recursion in every peer; RabbitMQ's Java client draws the same line."""
MAX_FRAME: Final = 131_072
"""RabbitMQ's default frame_max: headers must fit one frame, whatever the size of the body."""
FRAME_OVERHEAD: Final = 8 + 14
"""Frame head and end, then class, weight, body size and flags of the content header."""

SHORT_STRING_PROPERTIES: Final = frozenset({
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration",
    "message_id", "type", "user_id", "app_id", "cluster_id",
})  # fmt: skip


def validate_content(
    exchange: str,
    routing_key: str,
    properties: Mapping[str, object],
    *,
    frame_max: int = MAX_FRAME,
) -> dict[str, Any]:
    """Check one message against the rules above.

    Returns a private copy of the properties as a receiver will see them: absent ones left out,
    nested containers copied, tuples as lists, ``bytes`` in headers as ``str`` where they are UTF-8,
    moments as naive UTC in whole seconds (which is how py-amqp decodes them).
    Raises ``ValueError`` naming the argument.
    """
    check_short_string("exchange", exchange)
    check_short_string("routing_key", routing_key)
    sent: dict[str, object] = {}
    room = frame_max - FRAME_OVERHEAD
    for name, value in properties.items():
        if value is None:
            continue
        if name in SHORT_STRING_PROPERTIES:
            room -= 1 + check_short_string(name, value)
            if name == "expiration":
                _check_expiration(value)
            sent[name] = value
        elif name == "headers":
            headers, size = check_table(name, value)
            _check_copies(headers)
            sent[name] = headers
            room -= size
        else:
            _check_number(name, value)
            sent[name] = value
            room -= 8
    if room < 0:
        raise ValueError(
            f"properties and headers must fit one frame of {frame_max} bytes, these are {-room} bytes too long: "
            "put what is large into the body"
        )
    return sent


def refuse_size(size: int, body_max: int) -> NoReturn:
    """Raise the ``ValueError`` for a body that is too large."""
    raise ValueError(
        f"body has {size} bytes, and body_max allows {body_max}: raise that option at every sender and receiver, and "
        "the broker's own limit (RabbitMQ: max_message_size), or keep the content elsewhere and send where it is"
    )


def check_short_string(name: str, value: object) -> int:
    """Check that ``value`` can be sent as an AMQP short string; return its length in bytes.

    Raises ``ValueError`` naming the argument.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a str, not {type(value).__name__}: {value!r:.80}")  # noqa: TRY004
    length = len(value) if value.isascii() else _encoded_length(name, value)
    if length > MAX_SHORT_STRING:
        raise ValueError(f"{name} must be at most {MAX_SHORT_STRING} bytes of UTF-8, not {length}: {value!r:.80}")
    return length


def check_table(name: str, table: object) -> tuple[dict[str, object], int]:
    """Check an AMQP table; return the copy a receiver will see and its encoded size in bytes.

    Raises ``ValueError`` naming the key, as in ``headers['a']['b']``.
    """
    return _table(name, table, 1)


def _table(name: str, table: object, depth: int) -> tuple[dict[str, object], int]:
    if not isinstance(table, Mapping):
        raise ValueError(f"{name} must be a mapping, not {type(table).__name__}: {table!r:.80}")  # noqa: TRY004
    if depth > MAX_NESTING:
        raise ValueError(f"{name:.80} is nested more than {MAX_NESTING} deep")
    copy: dict[str, object] = {}
    size = 4
    for key, value in table.items():
        if type(key) is str and key.isascii() and len(key) <= MAX_SHORT_STRING:
            size += 1 + len(key)
        else:
            size += 1 + check_short_string(f"key of {name}", key)
        kind = type(value)
        if kind is str and value.isascii():
            copy[key] = value
            size += 5 + len(value)
        elif kind in _PLAIN or (kind is int and -(2**63) <= value < 2**63):
            copy[key] = value
            size += 9
        else:
            copy[key], grown = _value(f"{name}[{key!r}]", value, depth)
            size += grown
    return copy, size


def _value(name: str, value: object, depth: int) -> tuple[object, int]:
    check = _VALUES.get(type(value))
    if check is None:
        check = next((check for kind, check in _VALUES.items() if isinstance(value, kind)), None)
    if check is None:
        raise ValueError(f"{name} has type {type(value).__name__}, which AMQP tables can't carry: {value!r:.80}")
    return check(name, value, depth)


def _none_or_number(name: str, value: object, depth: int) -> tuple[object, int]:
    return value, 9


def _integer(name: str, value: int, depth: int) -> tuple[int, int]:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} must fit 64 signed bits")
    return value, 9


def _text(name: str, value: str, depth: int) -> tuple[str, int]:
    return value, 5 + _encoded_length(name, value)


def _binary(name: str, value: bytes, depth: int) -> tuple[str | bytes, int]:
    try:
        return value.decode(), 5 + len(value)
    except UnicodeDecodeError:
        return value, 5 + len(value)


def _decimal(name: str, value: Decimal, depth: int) -> tuple[Decimal, int]:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -255 <= exponent <= 0:
        raise ValueError(f"{name} must be a finite decimal with at most 255 decimals: {value}")
    if not -(2**31) <= value.scaleb(-exponent) < 2**31:
        raise ValueError(f"{name} must have digits that fit 32 signed bits: {value}")
    return value, 6


def _moment(name: str, value: datetime, depth: int) -> tuple[datetime, int]:
    seconds = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if seconds.timestamp() < 0:
        raise ValueError(f"{name} must not be before 1970: {value}")
    return seconds.astimezone(UTC).replace(microsecond=0, tzinfo=None), 9


def _array(name: str, value: list[object] | tuple[object, ...], depth: int) -> tuple[list[object], int]:
    if depth >= MAX_NESTING:
        raise ValueError(f"{name:.80} is nested more than {MAX_NESTING} deep")
    copy: list[object] = []
    size = 5
    for index, item in enumerate(value):
        seen, grown = _value(f"{name}[{index}]", item, depth + 1)
        copy.append(seen)
        size += grown
    return copy, size


def _nested(name: str, value: Mapping[str, object], depth: int) -> tuple[dict[str, object], int]:
    copy, size = _table(name, value, depth + 1)
    return copy, 1 + size


_PLAIN: Final = frozenset({type(None), bool, float})

_VALUES: Final[dict[type, Callable[..., tuple[object, int]]]] = {
    str: _text,
    bool: _none_or_number,
    int: _integer,
    float: _none_or_number,
    type(None): _none_or_number,
    dict: _nested,
    list: _array,
    tuple: _array,
    bytes: _binary,
    Decimal: _decimal,
    datetime: _moment,
    Mapping: _nested,
}


def _encoded_length(name: str, value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name} can't be encoded as UTF-8: {value!r:.80}") from None


def _check_copies(headers: Mapping[str, object]) -> None:
    for name in ("CC", "BCC"):
        if name in headers and not isinstance(headers[name], list):
            raise ValueError(f"headers[{name!r}] must be a list of routing keys, not {headers[name]!r:.80}")


def _check_expiration(value: object) -> None:
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and int(value) <= MAX_EXPIRATION):
        raise ValueError(
            f"expiration must be milliseconds as decimal digits from '0' to '{MAX_EXPIRATION}', not {value!r:.80}"
        )


def _check_number(name: str, value: object) -> None:
    limits = _NUMBERS.get(name)
    if limits is None:
        raise UnknownProperty(name)
    lowest, highest, meaning = limits
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise ValueError(f"{name} must be {meaning}, not {value!r:.80}")


_NUMBERS: Final[Mapping[str, tuple[int, int, str]]] = {
    "delivery_mode": (1, 2, "1 (transient) or 2 (persistent)"),
    "priority": (0, 255, "an int from 0 to 255"),
    "timestamp": (0, 2**63 - 1, "an int of whole seconds since 1970"),
}

PROPERTY_NAMES: Final = frozenset({*SHORT_STRING_PROPERTIES, *_NUMBERS, "headers"})
"""Every message property of AMQP 0-9-1."""
