"""Single values out of JSON: each from the one form that JSON has for it, or as a richer serializer gave it.

Nothing is guessed: ``"3"`` is no number and ``1`` is not true.  An integer is good for a float, since JSON has one kind
of number.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from typing import TypeVar
from uuid import UUID

from ._plans import Decode
from .errors import FleetMistake, PayloadError, shown

__all__ = ["as_is", "enum_decoder", "key_decoder", "literal_decoder", "scalar_decoder", "wrong"]

T = TypeVar("T")
_CHOICES_MAX = 10
_EXACT_DIGITS = 15
"""Decimal digits that a double keeps: a Decimal that came as a JSON number is what the sender wrote up to here."""


def wrong(expected: str, value: object) -> PayloadError:
    """The error for a value that is of another type."""
    return PayloadError(f"expected {expected}, got {shown(value)}")


def as_is(value: object) -> object:
    """For ``object`` and ``Any``, and where nothing is annotated."""
    return value


def _string(value: object) -> object:
    if isinstance(value, str):
        return value
    raise wrong("str", value)


def _integer(value: object) -> object:
    if isinstance(value, int) and value is not True and value is not False:
        return value
    raise wrong("int", value)


def _float(value: object) -> object:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and value is not True and value is not False:
        try:
            return float(value)
        except OverflowError:
            raise wrong("float", value) from None
    raise wrong("float", value)


def _boolean(value: object) -> object:
    if value is True or value is False:
        return value
    raise wrong("bool", value)


def _null(value: object) -> object:
    if value is None:
        return None
    raise wrong("null", value)


def _from_text(kind: type[T], parse: Callable[[str], T], form: str) -> Decode:
    """A type that JSON writes as text."""
    expected = f"{kind.__name__} ({form})"

    def decode(value: object) -> object:
        if isinstance(value, str):
            try:
                return parse(value)
            except (ValueError, InvalidOperation):
                raise wrong(expected, value) from None
        if isinstance(value, kind):
            return value
        raise wrong(expected, value)

    return decode


def _date(value: object) -> object:
    if isinstance(value, datetime):  # which Python takes for a date
        raise wrong("date (ISO 8601)", value)
    return _date_text(value)


def _decimal(value: object) -> object:
    if isinstance(value, int) and value is not True and value is not False:
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        number = Decimal(repr(value))
        if len(number.as_tuple().digits) <= _EXACT_DIGITS:
            return number
        raise PayloadError(f"expected Decimal, got {value!r}: of so many digits a number keeps not all, send text")
    return _decimal_text(value)


def _timedelta(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and value is not True and value is not False:
        try:
            return timedelta(seconds=value)
        except (ValueError, OverflowError):
            pass
    raise wrong("timedelta (seconds)", value)


_date_text = _from_text(date, date.fromisoformat, "ISO 8601")
_decimal_text = _from_text(Decimal, Decimal, "digits as text")
_SCALARS: dict[object, Decode] = {
    object: as_is,
    str: _string,
    int: _integer,
    float: _float,
    bool: _boolean,
    type(None): _null,
    None: _null,
    datetime: _from_text(datetime, datetime.fromisoformat, "ISO 8601"),
    date: _date,
    time: _from_text(time, time.fromisoformat, "ISO 8601"),
    timedelta: _timedelta,
    UUID: _from_text(UUID, UUID, "hexadecimal text"),
    Decimal: _decimal,
    bytes: _from_text(bytes, lambda text: base64.b64decode(text, validate=True), "base64 text"),
}
_KEYS = (str, UUID, datetime, date)
"""What JSON's keys, which are text, can be besides integers and enums of text."""


def scalar_decoder(kind: object) -> Decode | None:
    """For a type that is one value, known by heart; None for others."""
    return _SCALARS.get(kind)


def literal_decoder(choices: tuple[object, ...]) -> Decode:
    """One of some values, of the very type: ``Literal[1]`` takes neither true nor ``"1"``."""
    made = {(type(plain := _value_of(one)), plain): one for one in choices}
    return _choice_decoder(made, ())


def enum_decoder(kind: type[Enum], where: str) -> Decode:
    """By the value of a member; a member as it is, too."""
    if issubclass(kind, Flag):
        return _flag_decoder(kind)
    values = [member.value for member in kind.__members__.values()]
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        raise FleetMistake(f"{where}: {kind.__name__} has values that are no text or numbers, so JSON can't name them")
    return _choice_decoder({(type(member.value), member.value): member for member in kind}, kind)


def _value_of(choice: object) -> object:
    return choice.value if isinstance(choice, Enum) else choice


def _choice_decoder(made: dict[tuple[type, object], object], kind: type | tuple[()]) -> Decode:
    texts = [shown(value) for _, value in made]
    expected = "one of " if len(texts) > 1 else ""
    expected += ", ".join(texts[:_CHOICES_MAX]) + (", ..." if len(texts) > _CHOICES_MAX else "")

    def decode(value: object) -> object:
        try:
            return made[(type(value), value)]
        except (KeyError, TypeError):  # TypeError: an object or an array can't be looked up
            if isinstance(value, kind):
                return value
            raise wrong(expected, value) from None

    return decode


def _flag_decoder(kind: type[Flag]) -> Decode:
    def decode(value: object) -> object:
        if isinstance(value, kind):
            return value
        try:
            return kind(_integer(value))
        except ValueError:
            raise wrong(kind.__name__, value) from None

    return decode


def key_decoder(kind: object, plain: Decode, where: str) -> Decode:
    """For the keys of a dict, which JSON always writes as text; ``plain`` decodes such a value elsewhere."""
    if kind is int:
        return _integer_key
    texts = isinstance(kind, type) and issubclass(kind, Enum) and all(isinstance(one.value, str) for one in kind)
    if plain is as_is or kind in _KEYS or texts:
        return plain
    raise FleetMistake(f"{where}: a key of a JSON object is text; it can be str, int, UUID, a date or an enum of text")


def _integer_key(value: object) -> object:
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            raise wrong("int as a key", value) from None
        if str(number) == value:  # "03" and "3" would be one key
            return number
        raise wrong("int as a key", value)
    return _integer(value)
