"""Classes that the tests of payloads decode, with annotations that are text, as in most programs."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import attrs

Sku = NewType("Sku", str)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@attrs.frozen
class Order:
    id: str
    customer: str
    cents: int


@attrs.frozen
class Line:
    sku: Sku
    count: int = 1


@attrs.define
class Counted:
    name: str
    count: int = attrs.field(default=0, init=False)


@dataclass
class Basket:
    lines: list[Line]
    note: str | None = None
    _: KW_ONLY
    weights: dict[str, float] = field(default_factory=dict)
    total: int = field(default=0, init=False)


@attrs.frozen
class Tree:
    name: str
    children: list[Tree] = attrs.field(factory=list)


class Address(TypedDict):
    street: str
    city: NotRequired[Annotated[str, "where it is"]]


@attrs.frozen
class Created:
    kind: Literal["created"]
    id: str


@attrs.frozen
class Deleted:
    kind: Literal["deleted", "dropped"]
    id: str
    by: Address | None = None


@attrs.frozen
class Everything:
    """One field of each kind that JSON has no form for, and the collections."""

    when: datetime
    day: date
    lasts: timedelta
    key: UUID
    price: Decimal
    data: bytes
    colour: Colour
    level: Level
    either: int | str | None
    ratio: float
    pair: tuple[int, str]
    numbers: tuple[int, ...]
    words: frozenset[str]
    by_number: dict[int, Line]
    by_colour: dict[Colour, bool]
    event: Created | Deleted
    _private: int = 0


@attrs.frozen
class Even:
    number: int = attrs.field()

    @number.validator
    def _is_even(self, _: object, value: int) -> None:
        if value % 2:
            raise ValueError(f"{value} is odd")
