"""What a fleet publishes it reads back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kombu_actors.errors import EncodeError
from kombu_actors.fleet._payloads import decoder_for
from kombu_actors.fleet._plain import to_plain
from kombu_actors.utils import json as kombus_json
from tests.fleet.payload_classes import Basket, Counted, Created, Deleted, Everything, Line, Order, Sku, Tree

TEXT = st.text(max_size=20)
for each in (Order, Line, Created, Deleted, Everything):
    attrs.resolve_types(each)  # for Hypothesis, which looks at the fields' types
few = settings(max_examples=50)
LINES = st.builds(Line, sku=TEXT.map(Sku), count=st.integers())
BASKETS = st.builds(
    Basket,
    lines=st.lists(LINES, max_size=3),
    note=st.none() | TEXT,
    weights=st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
TREES = st.recursive(
    st.builds(Tree, TEXT, st.just([])), lambda inner: st.builds(Tree, TEXT, st.lists(inner, max_size=3))
)
EVERYTHING = st.builds(
    Everything,
    lasts=st.timedeltas(min_value=timedelta(days=-10_000), max_value=timedelta(days=10_000)),
    price=st.decimals(allow_nan=False),
    ratio=st.floats(allow_nan=False),
    event=st.builds(Created, kind=st.just("created")) | st.builds(Deleted, by=st.none()),
)


@few
@given(value=st.one_of(BASKETS, TREES, EVERYTHING, st.builds(Order)))
def test_objects_come_back_equal(value: object) -> None:
    """Through JSON as any program writes it."""
    decode = decoder_for(type(value), "here")
    assert decode is not None
    assert decode(json.loads(json.dumps(to_plain(value)))) == value


@few
@given(value=EVERYTHING)
def test_what_kombus_json_has_forms_for_is_read_in_them_too(value: Everything) -> None:
    """A producer of kombu's sends dates and their kin in envelopes."""
    decode = decoder_for(Everything, "here")
    assert decode is not None
    fields = attrs.asdict(value, recurse=False)
    kombus = {name: fields[name] for name in ("when", "day", "key", "price", "data")}
    plain: Any = to_plain(value)
    assert decode(kombus_json.loads(kombus_json.dumps({**plain, **kombus}))) == value


@few
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | TEXT, lambda one: st.lists(one) | st.dictionaries(TEXT, one)
    )
)
def test_json_goes_as_it_is(value: object) -> None:
    """What JSON has a form for is not changed."""
    assert to_plain(value) == value


def test_what_init_does_not_take_is_left_out() -> None:
    """It could not be given back."""
    assert to_plain([Counted("a"), Basket([])]) == [{"name": "a"}, {"lines": [], "note": None, "weights": {}}]


class Kind(StrEnum):
    A = "a"


class Account(msgspec.Struct, rename="camel"):
    user_name: str
    order: Order | None = None


class Customer(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName")
    since: date


@dataclass
class Holds:
    account: Account
    customer: Customer


def test_objects_of_msgspec_and_pydantic_come_back_equal() -> None:
    """Under the names that their classes give the fields."""
    value = Holds(Account("a", Order("1", "c", 3)), Customer(fullName="c", since=date(2026, 1, 1)))
    plain = to_plain(value)
    assert plain == {
        "account": {"userName": "a", "order": {"id": "1", "customer": "c", "cents": 3}},
        "customer": {"fullName": "c", "since": "2026-01-01"},
    }
    decode = decoder_for(Holds, "here")
    assert decode is not None
    assert decode(plain) == value


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        ("text", "text"),
        (b"\0", b"\0"),
        ({"data": b"\0"}, {"data": "AA=="}),
        ({1: Kind.A, Kind.A: Decimal("1.10"), date(2026, 1, 1): (datetime(2026, 1, 1),)},
         {"1": "a", "a": "1.10", "2026-01-01": ["2026-01-01T00:00:00"]}),
        ([timedelta(seconds=90)], [90.0]),
    ],
    ids=str,
)  # fmt: skip
def test_what_json_has_no_form_for_is_written_as_text(body: object, plain: object) -> None:
    """But a body that is bytes or text goes as it is."""
    assert to_plain(body) == plain


def test_what_is_unknown_is_left_to_the_serializer() -> None:
    """It may have been taught the type, and refuses it otherwise."""
    thing = object()
    assert to_plain({"thing": thing}) == {"thing": thing}


def test_a_body_that_holds_itself_is_refused() -> None:
    """As an error of publishing, before anything is sent."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="nested more than 100 deep, or holds itself"):
        to_plain(loop)
