"""``--where``: which dead letters are meant, in words that fit a command line.  Pure.

error=CardDeclined    age>1h    attempts>=5    reason~declined    payload.customer=alice    header.tenant!=acme
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from ..errors import KombuError
from ..fleet import DeadLetter
from .requests import WrongRequest

__all__ = ["FIELDS", "Condition", "condition", "holds"]

FIELDS = ("id", "queue", "error", "reason", "handler", "attempts", "age", "size", "content_type")
"""And ``payload``, ``payload.a.b``, ``header.NAME``."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBERS = ("attempts", "age", "size")
_CONDITION = re.compile(r"\s*([A-Za-z_][^=!~<>]*?)\s*(!=|!~|<=|>=|=|~|<|>)\s*(.*?)\s*", re.DOTALL)
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
}


@attrs.frozen
class Condition:
    """One thing that has to hold for a letter."""

    field: str
    operator: str
    text: str
    number: float | None
    """What it is compared with as a number; None: it is none."""

    def holds(self, letter: DeadLetter, now: float) -> bool:
        """Whether it does; ``now`` in seconds since 1970."""
        value = _value(letter, self.field, now)
        if value is None:
            return self.operator in ("!=", "!~")
        if self.operator in ("~", "!~"):
            return (self.text.lower() in _shown(value).lower()) is (self.operator == "~")
        if self.number is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return _ORDERS[self.operator](value, self.number)
        if self.operator in ("=", "!="):
            return (_shown(value) == self.text) is (self.operator == "=")
        return False  # text is neither more nor less


def condition(text: str) -> Condition:
    """Read one condition; raises ``WrongRequest``."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise WrongRequest(f"--where {text!r:.80}: say FIELD=VALUE, with = != ~ (contains) !~ < <= > >= between them")
    field, operator, value = match.groups()
    if field not in FIELDS and field != "payload" and not field.startswith(("payload.", "header.")):
        raise WrongRequest(f"--where {text!r:.80}: fields are {', '.join(FIELDS)}, payload.NAME and header.NAME")
    number = _number(field, value)
    if number is None and ((field in _NUMBERS and "~" not in operator) or operator[0] in "<>"):
        what = "a time such as 90, 15m, 2h or 1d" if field == "age" else "a number"
        raise WrongRequest(f"--where {text!r:.80}: {field} {operator} takes {what}")
    return Condition(field, operator, value, number)


def holds(conditions: Sequence[Condition], letter: DeadLetter, now: float) -> bool:
    """Whether all of them do."""
    return all(one.holds(letter, now) for one in conditions)


def _number(field: str, text: str) -> float | None:
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?(?:[eE]-?\d+)?)([a-z]*)", text)
    if match is None or match[2] not in (_UNITS if field == "age" else ("",)):
        return None
    value = float(match[1]) * _UNITS[match[2]]
    return value if math.isfinite(value) else None


def _value(letter: DeadLetter, field: str, now: float) -> object:
    match field.partition("."):
        case ("age", _, _):
            return None if letter.dead_at is None else max(now - letter.dead_at, 0.0)
        case ("size", _, _):
            return len(letter.body)
        case ("header", _, name):
            return letter.headers.get(name)
        case ("payload", _, steps):
            return _inside(letter, steps.split(".") if steps else [])
    return getattr(letter, field)


def _inside(letter: DeadLetter, steps: Sequence[str]) -> object:
    try:
        value: object = letter.payload
    except KombuError:
        return None  # it can't be decoded: perhaps that is why it is dead
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _shown(value: object) -> str:
    """As JSON writes it, text without quotes."""
    match value:
        case True:
            return "true"
        case False:
            return "false"
        case bytes():
            return value.decode(errors="replace")
        case _:
            return str(value)
