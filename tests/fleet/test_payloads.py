"""A payload is what the handler's annotation says, or the error says where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from kombu_actors.fleet import FleetMistake, PayloadError
from kombu_actors.fleet._payloads import decode_as, decoder_for
from tests.fleet.payload_classes import Address, Basket, Colour, Created, Deleted, Even, Level, Line, Order, Sku, Tree


class Account(msgspec.Struct):
    name: str
    limits: list[int] = []


class Opened(msgspec.Struct, tag="opened"):
    id: int


class Closed(msgspec.Struct, tag="closed"):
    id: int


class Customer(pydantic.BaseModel):
    name: str
    tags: list[int] = []


@attrs.frozen
class Invoice:
    account: Account
    customer: Customer


def decoded(annotation: Any, payload: object) -> object:
    decode = decoder_for(annotation, "here")
    return payload if decode is None else decode(payload)


def problem(annotation: Any, payload: object) -> str:
    with pytest.raises(PayloadError) as caught:
        decoded(annotation, payload)
    return str(caught.value)


ORDER = {"id": "1", "customer": "c", "cents": 3}


@pytest.mark.parametrize(
    ("annotation", "payload", "value"),
    [
        (str, "a", "a"),
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (bool, True, True),
        (None, None, None),
        (object, {"a": [1]}, {"a": [1]}),
        (Any, 3, 3),
        (datetime, "2026-11-29T19:39:44Z", datetime(2026, 11, 29, 19, 39, 44, tzinfo=UTC)),
        (datetime, datetime(2026, 1, 1), datetime(2026, 1, 1)),
        (date, "2026-11-29", date(2026, 11, 29)),
        (time, "19:39", time(19, 39)),
        (timedelta, 1.5, timedelta(seconds=1.5)),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (Decimal, "19.99", Decimal("19.99")),
        (Decimal, 19.99, Decimal("19.99")),
        (Decimal, 3, Decimal(3)),
        (bytes, "AAE=", b"\0\1"),
        (bytes, b"\0\1", b"\0\1"),
        (Colour, "red", Colour.RED),
        (Level, 2, Level.HIGH),
        (Literal["a", 1], 1, 1),
        (Literal[Colour.RED], "red", Colour.RED),
        (Sku, "s", "s"),
        (Annotated[int, "cents"], 3, 3),
        (list, [1, "a"], [1, "a"]),
        (list[int], (1, 2), [1, 2]),
        (Sequence[float], [1], [1.0]),
        (set[int], [1, 1], {1}),
        (frozenset[str], ["a"], frozenset({"a"})),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (dict, {"a": 1}, {"a": 1}),
        (dict[int, str], {"3": "a"}, {3: "a"}),
        (Mapping[UUID, int], {str(UUID(int=1)): 1}, {UUID(int=1): 1}),
        (dict[Colour, int], {"red": 1}, {Colour.RED: 1}),
        (int | None, None, None),
        (Optional[int], 3, 3),  # noqa: UP045
        (float | int, 3, 3),
        (datetime | str, "noon", "noon"),
        (int | list[str], ["a"], ["a"]),
        (Order, ORDER, Order("1", "c", 3)),
        (Order, {**ORDER, "sent_by": "a newer producer"}, Order("1", "c", 3)),
        (Order | str, ORDER, Order("1", "c", 3)),
        (Basket, {"lines": [{"sku": "s"}], "total": 9}, Basket([Line(Sku("s"))])),
        (Address, {"street": "s", "zip": "0"}, {"street": "s"}),
        (Created | Deleted, {"kind": "dropped", "id": "1"}, Deleted("dropped", "1")),
        (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")])),
        (Account, {"name": "a", "limits": [1]}, Account("a", [1])),
        (Opened | Closed, {"type": "closed", "id": 1}, Closed(1)),
        (Customer, {"name": "a"}, Customer(name="a")),
        (Invoice, {"account": {"name": "a"}, "customer": {"name": "c"}}, Invoice(Account("a"), Customer(name="c"))),
    ],
    ids=lambda one: str(one)[:40],
)
def test_a_payload_becomes_what_the_annotation_says(annotation: Any, payload: object, value: object) -> None:
    """Equal, and of the same type."""
    made = decoded(annotation, payload)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("annotation", "payload", "text"),
    [
        (str, 3, "$: expected str, got 3"),
        (int, "3", "$: expected int, got '3'"),
        (int, True, "$: expected int, got true"),
        (int, 3.0, "$: expected int, got 3.0"),
        (float, "3", "$: expected float, got '3'"),
        (float, 10**400, "$: expected float, got a huge integer"),
        (bool, 1, "$: expected bool, got 1"),
        (bool, None, "$: expected bool, got null"),
        (None, 0, "$: expected null, got 0"),
        (datetime, "noon", "$: expected datetime (ISO 8601), got 'noon'"),
        (date, datetime(2026, 1, 1), "$: expected date (ISO 8601), got a datetime"),
        (timedelta, float("nan"), "$: expected timedelta (seconds), got nan"),
        (UUID, "x", "$: expected UUID (hexadecimal text), got 'x'"),
        (Decimal, "x", "$: expected Decimal (digits as text), got 'x'"),
        (
            Decimal,
            0.1234567890123456,
            "$: expected Decimal, got 0.1234567890123456: of so many digits",
        ),
        (bytes, "??", "$: expected bytes (base64 text), got '??'"),
        (Colour, "green", "$: expected one of 'red', 'blue', got 'green'"),
        (Level, True, "$: expected one of 1, 2, got true"),
        (Literal["a"], [], "$: expected 'a', got an array"),
        (list[int], [1, "2"], "$[1]: expected int, got '2'"),
        (list[int], {}, "$: expected an array, got an object"),
        (set[object], [{}], "$: expected values that a set can hold"),
        (tuple[int, str], [1], "$: expected an array of 2, got an array"),
        (dict[int, int], {"03": 1}, "$['03']: expected int as a key, got '03'"),
        (dict[str, int], {"a": "b"}, "$.a: expected int, got 'b'"),
        (int | str, [], "$: expected int | str, got an array"),
        (Order | str, {"id": 3}, "$.id: expected str, got 3"),
        (list[int] | str, ["a"], "$[0]: expected int, got 'a'"),
        (Order, 3, "$: expected an object (Order), got 3"),
        (Order, {**ORDER, "customer": 3}, "$.customer: expected str, got 3"),
        (Order, {"id": "1", "cents": 3}, "$.customer: missing, and it has no default"),
        (dict[str, Basket], {"my basket": {"lines": [{}, {"sku": "s"}]}}, "$['my basket'].lines[0].sku: missing"),
        (Address, {"street": "s", "city": 1}, "$.city: expected str, got 1"),
        (
            Created | Deleted,
            {"kind": "made", "id": "1"},
            "$.kind: expected one of 'created', 'deleted', 'dropped'",
        ),
        (Created | Deleted, {"id": "1"}, "$.kind: missing"),
        (Even, {"number": 3}, "$: Even refuses it: ValueError: 3 is odd"),
        (str, "x" * 10**6 + "y", ""),
        (int, "x" * 10**6, f"$: expected int, got '{'x' * 40}...'"),
        (Account, {"name": 3}, "$.name: expected str, got int"),
        (list[Account], [{"name": "a", "limits": ["x"]}], "$[0].limits[0]: expected int, got str"),
        (Opened | Closed, {"type": "lost"}, "$.type: invalid value 'lost'"),
        (
            Invoice,
            {"account": {"name": "a"}, "customer": {"name": 3}},
            "$.customer.name: input should be a valid string",
        ),
        (Customer, {"name": "a", "tags": [{}]}, "$.tags[0]: input should be a valid integer, got an object"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_an_error_says_where_and_what(annotation: Any, payload: object, text: str) -> None:
    """``$.customer: expected str, got 3``, short whatever came."""
    if not text:
        assert decoded(annotation, payload) == payload
        return
    said = problem(annotation, payload)
    assert said.startswith(text)
    assert len(said) < 400


def test_a_class_that_holds_itself_is_followed_a_hundred_levels_deep() -> None:
    """Beyond that it is an error like others, not Python's own limit, wherever that strikes."""
    deep: dict[str, object] = {"name": "leaf"}
    for _ in range(49):
        deep = {"name": "n", "children": [deep]}
    assert isinstance(decoded(Tree, deep), Tree)
    for _ in range(400):
        deep = {"name": "n", "children": [deep]}
    assert problem(Tree, deep) == "$: nested more than 100 deep"


def test_a_path_is_short_however_deep_it_is() -> None:
    """The first twenty steps tell enough."""
    deep: dict[str, object] = {"name": 3}
    for _ in range(40):
        deep = {"name": "n", "children": [deep]}
    assert problem(Tree, deep) == "$" + ".children[0]" * 10 + "...: expected str, got 3"


def test_what_is_of_the_class_already_is_taken_as_it_is() -> None:
    """As a serializer leaves it that knows the class."""
    order = Order("1", "c", 3)
    assert decoded(Order, order) is order
    assert decoded(Colour, Colour.RED) is Colour.RED


def test_a_payload_can_be_asked_for_as_another_type() -> None:
    """``message.payload_as(list[Order])``."""
    assert decode_as(list[Order], [ORDER]) == [Order("1", "c", 3)]
    with pytest.raises(PayloadError, match=r"\$\[0\]: expected an object \(Order\), got 3"):
        decode_as(list[Order], [3])


def test_classes_made_in_a_function_are_found_among_its_names() -> None:
    """Annotations are text here; what they name is local."""

    @attrs.frozen
    class Inner:
        number: int

    @attrs.frozen
    class Outer:
        inner: Inner

    decode = decoder_for(Outer, "here", {"Inner": Inner})
    assert decode is not None
    assert decode({"inner": {"number": 3}}) == Outer(Inner(3))
    with pytest.raises(FleetMistake, match="Outer: an annotation names 'Inner', which tests"):
        decoder_for(Outer, "here")


def test_a_class_means_the_names_of_its_own_module() -> None:
    """Whatever else is called ``Line`` where the handler is."""
    decode = decoder_for(Basket, "here", {"Line": Pool})
    assert decode is not None
    assert decode({"lines": [{"sku": "s"}]}) == Basket([Line(Sku("s"))])


class Pool:
    """No payload is one."""


@attrs.frozen
class NeedsPool:
    pool: Pool


@attrs.frozen(init=False)
class Demanding:
    id: str

    def __init__(self, id: str, secret: str) -> None:
        self.__attrs_init__(id=id)


class Loose(TypedDict):
    a: int


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Pool, "here: a payload can't be made into Pool; use builtins, a dataclass"),
        (list[Pool], "here: a payload can't be made into Pool"),
        (NeedsPool, r"NeedsPool\.pool: a payload can't be made into Pool"),
        (Demanding, "Demanding: its __init__ demands 'secret', which is none of its fields"),
        (dict[float, int], "a key of a JSON object is text; it can be str, int, UUID, a date or an enum of text"),
        (dict[Level, int], "a key of a JSON object is text"),
        (Order | Basket, "Order and Basket are all objects in JSON and can't be told apart; give each a field"),
        (Order | dict[str, int], r"Order and dict\[str, int\] are all objects"),
        (Account | Order, "Account and Order are all objects"),
        (msgspec.defstruct("Bad", [("pool", NeedsPool | Order)]), "msgspec refuses Bad: "),
        ("Order", "a payload can't be made into Order"),
        ({}, "a payload can't be made into {}"),
    ],
    ids=str,
)
def test_what_no_payload_can_be_is_a_mistake(annotation: Any, text: str) -> None:
    """Found when the handler is registered, not with the first message."""
    with pytest.raises(FleetMistake, match=text):
        decoder_for(annotation, "here")
