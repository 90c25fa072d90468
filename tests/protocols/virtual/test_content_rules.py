"""One list of what a broker takes as a message: each rule from both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.protocols._content import MAX_EXPIRATION, check_table, validate_content


class Mode(IntEnum):
    PERSISTENT = 2


class Kind(StrEnum):
    JSON = "application/json"


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth - 1):
        table = {"t": table}
    return table


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"content_type": 5}, "content_type must be a str, not int"),
        ({"message_id": "m" * 256}, "message_id must be at most 255 bytes of UTF-8, not 256"),
        ({"message_id": "ä" * 128}, "message_id must be at most 255 bytes of UTF-8, not 256"),
        ({"reply_to": "\ud800"}, "reply_to can't be encoded as UTF-8"),
        ({"colour": "red"}, "'colour' is not a message property"),
        ({"delivery_mode": 3}, "delivery_mode must be 1 .* or 2"),
        ({"delivery_mode": True}, "delivery_mode must be 1"),
        ({"delivery_mode": "2"}, "delivery_mode must be 1"),
        ({"priority": 256}, "priority must be an int from 0 to 255"),
        ({"priority": -1}, "priority must be an int from 0 to 255"),
        ({"timestamp": 1.5}, "timestamp must be an int of whole seconds"),
        ({"timestamp": -1}, "timestamp must be an int of whole seconds"),
        ({"expiration": 60}, "expiration must be a str, not int"),
        ({"expiration": "abc"}, "expiration must be milliseconds as decimal digits"),
        ({"expiration": "-1"}, "expiration must be milliseconds"),
        ({"expiration": "1.5"}, "expiration must be milliseconds"),
        ({"expiration": ""}, "expiration must be milliseconds"),
        ({"expiration": "٣"}, "expiration must be milliseconds"),
        ({"expiration": str(MAX_EXPIRATION + 1)}, "expiration must be milliseconds"),
        ({"headers": [("a", 1)]}, "headers must be a mapping, not list"),
        ({"headers": {1: "a"}}, "key of headers must be a str, not int"),
        ({"headers": {"k" * 256: 1}}, "key of headers must be at most 255 bytes"),
        ({"headers": {"a": {"b": object}}}, r"headers\['a'\]\['b'\] has type type, which AMQP tables can't carry"),
        ({"headers": {"a": [1, {2}]}}, r"headers\['a'\]\[1\] has type set"),
        ({"headers": {"a": 2**63}}, r"headers\['a'\] must fit 64 signed bits"),
        ({"headers": {"a": "\udfff"}}, r"headers\['a'\] can't be encoded"),
        ({"headers": {"a": Decimal("NaN")}}, "finite decimal"),
        ({"headers": {"a": Decimal("1E5")}}, "finite decimal"),
        ({"headers": {"a": Decimal("21474836.48")}}, "fit 32 signed bits"),
        ({"headers": {"a": datetime(1969, 12, 31, tzinfo=UTC)}}, "must not be before 1970"),
        ({"headers": nested(33)}, "nested more than 32 deep"),
        ({"headers": {"a": [[[[nested(29)]]]]}}, "nested more than 32 deep"),
        ({"headers": {"a": "x" * 131_072}}, "must fit one frame of 131072 bytes"),
        ({"headers": {"CC": "q"}}, r"headers\['CC'\] must be a list of routing keys"),
        ({"headers": {"BCC": {}}}, r"headers\['BCC'\] must be a list of routing keys"),
    ],
)
def test_what_is_refused_is_named(properties: dict[str, Any], complaint: str) -> None:
    """A sentence that says which argument, what it must be, and what it was."""
    with pytest.raises(ValueError, match=complaint):
        validate_content("x", "k", properties)


@pytest.mark.parametrize("name", ["exchange", "routing_key"])
@pytest.mark.parametrize("value", [None, b"x", "x" * 256])
def test_addresses_are_short_strings(name: str, value: Any) -> None:
    """Exchange and routing key, before anything else."""
    arguments = {"exchange": "x", "routing_key": "k", name: value}
    with pytest.raises(ValueError, match=name):
        validate_content(**arguments, properties={})


def test_what_is_allowed_arrives_as_on_the_wire() -> None:
    """Absent properties left out, containers copied, tuples as lists, moments as naive UTC seconds."""
    east = timezone(timedelta(hours=2))
    headers: dict[str, Any] = {
        "none": None, "flag": True, "int": -(2**63), "float": 1.5, "decimal": Decimal("-1.25"), "text": "ä" * 300,
        "bytes": b"plain", "raw": b"\xff", "moment": datetime(2026, 1, 1, 2, 0, 0, 5, tzinfo=east),
        "naive": datetime(2026, 1, 1), "list": [1, (2, "x")], "table": {"k": {}}, "CC": ("a",),
    }  # fmt: skip
    sent = validate_content(
        "", "k" * 255, {"headers": headers, "delivery_mode": Mode.PERSISTENT, "content_type": Kind.JSON,
                        "expiration": str(MAX_EXPIRATION), "priority": 255, "timestamp": 0, "type": None},
    )  # fmt: skip
    assert "type" not in sent
    assert sent["headers"] == {
        **headers,
        "bytes": "plain",
        "moment": datetime(2026, 1, 1),
        "list": [1, [2, "x"]],
        "CC": ["a"],
    }
    assert sent["headers"]["table"] is not headers["table"]
    assert validate_content("", "", {"headers": nested(32)})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | st.text(max_size=20) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=6))
def test_the_copy_is_what_the_wire_would_bring(table: dict[str, Any]) -> None:
    """Encoded and decoded by py-amqp, the table equals the copy; its size is no underestimate."""
    copy, size = check_table("headers", table)
    wire = dumps("F", [table])
    assert loads("F", wire, 0)[0] == [copy]
    assert len(wire) <= size
