"""Tables from the wire: py-amqp's meaning where the bytes are right, one kind of error where they aren't."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from amqp.serialization import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from kombu_actors.protocols.amqp import PeerProtocolError
from kombu_actors.protocols.amqp.fields import read_arguments, read_table


def is_half_a_surrogate_pair(raw: bytes) -> bool:
    """Of such bytes py-amqp makes a text that nobody can encode; ours leaves them bytes, as all that isn't UTF-8."""
    try:
        raw.decode("utf-8", "surrogatepass").encode()
    except UnicodeEncodeError:
        return True
    except UnicodeDecodeError:
        return False
    return False


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=20).filter(lambda raw: not is_half_a_surrogate_pair(raw))
    | st.builds(lambda n, scale: Decimal(n).scaleb(-scale), st.integers(-(2**31), 2**31 - 1), st.integers(0, 20))
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
tables = st.dictionaries(texts, values, max_size=6)


def decode(data: bytes) -> dict[str, Any]:
    table, end = read_table(data, 0, len(data))
    assert end == len(data)
    return table


def nested(depth: int, kind: bytes) -> bytes:
    """A table whose innermost value lies ``depth`` tables or arrays deep."""
    inner = b""
    for _ in range(depth - 1):
        head = b"\x01kF" if kind == b"F" else b"A"
        inner = head + struct.pack(">I", len(inner)) + inner
    if kind == b"A" and depth > 1:
        inner = b"\x01k" + inner
    return struct.pack(">I", len(inner)) + inner


@given(tables)
@settings(max_examples=200)
def test_a_table_means_what_py_amqp_says_it_means(table: dict[str, Any]) -> None:
    """On valid input our bounded decoder and py-amqp's agree."""
    data = dumps("F", [table])
    (expected,), _ = loads("F", data, 0)
    assert decode(data) == expected


@pytest.mark.parametrize(
    ("letter", "raw", "value"),
    [
        ("b", b"\xff", -1),
        ("B", b"\xff", 255),
        ("s", b"\xff\xff", -1),
        ("U", b"\xff\xff", -1),
        ("u", b"\xff\xff", 65535),
        ("I", b"\xff\xff\xff\xff", -1),
        ("i", b"\xff\xff\xff\xff", 4294967295),
        ("l", b"\xff" * 8, -1),
        ("L", b"\xff" * 8, -1),
        ("f", struct.pack(">f", 0.5), 0.5),
        ("t", b"\x02", True),
        ("x", b"\x00\x00\x00\x02ab", b"ab"),
        ("S", b"\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
        ("S", b"\x00\x00\x00\x03\xed\xa0\x80", b"\xed\xa0\x80"),
        ("D", b"\xff\x00\x00\x00\x05", Decimal("5e-255")),
        ("T", struct.pack(">Q", 10**15), 10**15),
        ("V", b"", None),
    ],
)
def test_every_field_type_of_rabbitmq_is_understood(letter: str, raw: bytes, value: object) -> None:
    """Each letter has RabbitMQ's width and sign; what no Python type can hold stays a number."""
    field = b"\x01k" + letter.encode() + raw
    decoded = decode(struct.pack(">I", len(field)) + field)
    assert decoded == {"k": value}
    assert type(decoded["k"]) is type(value)


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_nesting_ends_at_32(kind: bytes) -> None:
    """32 levels decode; 33, and as many as fit a frame, are an error and no RecursionError."""
    decode(nested(32, kind))
    for depth in (33, 500, 18000):
        with pytest.raises(PeerProtocolError, match="nested more than 32 deep"):
            decode(nested(depth, kind))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\x05k",
        b"\x00\x00\x00\x02\x01k",
        b"\x00\x00\x00\x08\x01kS\xff\xff\xff\xffa",
        b"\x00\x00\x00\x08\x01kx\xff\xff\xff\xffa",
        b"\x00\x00\x00\x07\x01kF\xff\xff\xff\xff",
        b"\x00\x00\x00\x07\x01kA\xff\xff\xff\xff",
        b"\x00\x00\x00\x05\x01kT\x00\x00",
        b"\x00\x00\x00\x05\x01kD\x00\x00",
        b"\x00\x00\x00\x03\x01kt",
    ],
)
def test_a_claimed_length_is_never_believed(data: bytes) -> None:
    """py-amqp silently truncates or runs past the end; here every lie is a protocol error."""
    with pytest.raises(PeerProtocolError, match="claims more bytes"):
        decode(data)


def test_an_unknown_field_type_is_named() -> None:
    """The letter is in the message."""
    with pytest.raises(PeerProtocolError, match="unknown field type b'Z'"):
        decode(b"\x00\x00\x00\x03\x01kZ")


def test_text_that_is_no_utf8_is_kept() -> None:
    """A foreign publisher's key must not end the connection of who reads it."""
    (key,) = read_arguments("s", b"\x02\xff\xfe", 0, 3)
    assert key.encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize("layout", ["ooFSS", "sLbss", "BsBB", "Lbssl", "sll", "Lb"])
@given(data=st.binary(max_size=60))
@settings(max_examples=100)
def test_arbitrary_arguments_decode_or_are_protocol_errors(layout: str, data: bytes) -> None:
    """Nothing but PeerProtocolError leaves the decoder."""
    try:
        read_arguments(layout, data, 0, len(data))
    except PeerProtocolError:
        return


@given(tables, st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300)
def test_a_damaged_table_decodes_or_is_a_protocol_error(table: dict[str, Any], place: int, byte: int) -> None:
    """One wrong byte anywhere, lengths included."""
    data = bytearray(dumps("F", [table]))
    data[place % len(data)] = byte
    try:
        read_table(bytes(data), 0, len(data))
    except PeerProtocolError:
        return


def test_timestamps_are_py_amqps() -> None:
    """Naive UTC datetimes, as kombu hands them to applications."""
    moment = datetime(2026, 11, 22, 21, 0, 5)
    assert decode(dumps("F", [{"at": moment}])) == {"at": moment}
    assert decode(dumps("F", [{"at": moment.replace(tzinfo=UTC) + timedelta(hours=1)}])) == {
        "at": moment + timedelta(hours=1)
    }
