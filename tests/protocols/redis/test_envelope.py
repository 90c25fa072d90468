"""Envelopes are kombu's, byte for byte; whatever else lies in a queue is named, never guessed at."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kombu_actors.protocols.redis.envelope import Envelope, UndecodableEnvelope, decode, encode
from kombu_actors.utils.json import register_type

from .stock import TAG, StockChannel

STOCK = StockChannel()
SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
HEADER_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | SHORT
    | st.binary(max_size=10)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: not (isinstance(value, dict) and value.keys() == {"__type__", "__value__"}))
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": SHORT,
        "content_encoding": SHORT,
        "headers": st.dictionaries(SHORT.filter(lambda name: name != "redelivered"), HEADER_VALUES, max_size=5),
        "delivery_mode": st.sampled_from([1, 2]),
        "correlation_id": SHORT,
        "reply_to": SHORT,
        "expiration": st.integers(0, 10**9).map(str),
        "message_id": SHORT,
        "timestamp": st.integers(0, 2**63 - 1),
        "type": SHORT,
        "user_id": SHORT,
        "app_id": SHORT,
        "cluster_id": SHORT,
        "priority": st.integers(0, 255),
    },
)
ALL_PROPERTIES: dict[str, Any] = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "headers": {
        "moment": datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
        "binary": b"\xff",
        "bytes": b"abc",
        "decimal": decimal.Decimal("1.50"),
        "uuid": uuid.UUID(int=7),
        "deep": {"list": [1, None, True, 1.5, "é"]},
    },
    "delivery_mode": 2,
    "correlation_id": 'c"\\é',
    "reply_to": "answers",
    "expiration": "90000",
    "message_id": "m-1",
    "timestamp": 1767322800,
    "type": "greeting",
    "user_id": "guest",
    "app_id": "tests",
    "cluster_id": "one",
    "priority": 7,
}


@given(st.binary(max_size=100), PROPERTIES, SHORT, SHORT)
@example(b"", {}, "", "")
@example(b'{"a": 1}', ALL_PROPERTIES, "ex", "key.\x06\x16")
def test_an_envelope_is_the_bytes_that_kombu_writes(
    body: bytes, properties: dict[str, Any], exchange: str, routing_key: str
) -> None:
    """Key by key, in kombu's order, with what kombu puts where nothing was given."""
    written = encode(body, properties, exchange, routing_key, TAG)
    assert written == STOCK.written(body, properties, exchange, routing_key)


@given(st.text(st.characters(exclude_categories=["Cs"])), PROPERTIES, st.sampled_from(["utf-8", None]))
def test_a_body_of_text_is_written_as_kombu_writes_it(
    body: str, properties: dict[str, Any], encoding: str | None
) -> None:
    """With ``body_encoding`` other than base64 the body is a JSON text."""
    properties["content_encoding"] = "utf-8"
    written = encode(body.encode(), properties, "x", "k", TAG, body_encoding=encoding)
    assert written == StockChannel(body_encoding=encoding).written(body, properties, "x", "k")


@given(st.binary(), st.sampled_from(["utf-8", None]))
def test_a_binary_body_is_written_as_kombu_writes_bytes(body: bytes, encoding: str | None) -> None:
    """Even where it could be read as text: who sent bytes gets bytes."""
    properties = {"content_encoding": "binary"}
    written = encode(body, properties, "x", "k", TAG, body_encoding=encoding)
    assert written == StockChannel(body_encoding=encoding).written(body, properties, "x", "k")


@given(st.binary(), st.sampled_from(["base64", "utf-8", None]), st.sampled_from(["utf-8", "binary", None]))
@example(b"\xff", None, "utf-8")
def test_every_body_survives_every_encoding(body: bytes, encoding: str | None, content_encoding: str | None) -> None:
    """Bytes that are no text too; and stock kombu reads the same ones."""
    raw = encode(body, {"content_encoding": content_encoding}, "x", "k", TAG, body_encoding=encoding)
    assert decode(raw).body == body
    read = StockChannel(body_encoding=encoding).read(raw).body
    assert (read.encode() if isinstance(read, str) else read) == body


@given(st.binary(max_size=50), PROPERTIES, SHORT, SHORT)
def test_what_kombu_wrote_is_read_as_sent(
    body: bytes, properties: dict[str, Any], exchange: str, routing_key: str
) -> None:
    """Under AMQP's names and without kombu's own properties; priority and headers always are there, as in kombu."""
    envelope = decode(STOCK.written(body, properties, exchange, routing_key), queue="q")
    assert envelope.body == body
    assert envelope.properties == {"priority": 0, "headers": {}, **properties}
    assert (envelope.exchange, envelope.routing_key) == (exchange, routing_key or ("" if exchange else "q"))
    assert (envelope.redelivered, envelope.count, envelope.expires, envelope.ours) == (False, 0, 0, False)
    assert envelope.delivery_tag == TAG


def test_types_that_json_lacks_come_back() -> None:
    """Headers hold what kombu's JSON knows."""
    assert decode(encode(b"", ALL_PROPERTIES, "x", "k", TAG)).properties == ALL_PROPERTIES


def suffixed(raw: bytes, suffix: str = ',"kombu_actors":[2,1700000000000]') -> bytes:
    return raw[:-1] + suffix.encode() + b"}"


def test_our_note_is_read() -> None:
    """The scripts' own key says how often a message was given back and when it ends."""
    raw = suffixed(encode(b"b", {}, "x", "k", TAG))
    envelope = decode(raw)
    assert (envelope.ours, envelope.count, envelope.expires, envelope.redelivered) == (True, 2, 1700000000000, True)
    assert "x-delivery-count" not in envelope.properties["headers"]
    assert decode(raw, counted=True).properties["headers"] == {"x-delivery-count": 2}
    fresh = suffixed(encode(b"b", {}, "x", "k", TAG), ',"kombu_actors":[0,0]')
    assert (decode(fresh, counted=True).ours, decode(fresh, counted=True).properties["headers"]) == (True, {})


def test_our_note_survives_kombu() -> None:
    """Stock kombu reads the whole envelope and writes it again when it restores a message."""
    raw = suffixed(encode(b"b", {}, "x", "k", TAG))
    restored = json.dumps(json.loads(raw)).encode()
    assert restored.endswith(b', "kombu_actors": [2, 1700000000000]}')
    assert decode(restored) == decode(raw)
    assert STOCK.read(raw).body == b"b"


@pytest.mark.parametrize("note", ["7", "[]", "[1]", "[1,2,3]", '["1",0]', "[-1,0]", "[true,0]", "{}", "[1.5,0]"])
def test_a_note_that_is_not_ours_is_left_alone(note: str) -> None:
    """A key of that name could be somebody else's: the message is whole without it."""
    envelope = decode(suffixed(encode(b"b", {}, "x", "k", TAG), f',"kombu_actors":{note}'))
    assert (envelope.ours, envelope.count, envelope.expires, envelope.redelivered) == (False, 0, 0, False)


@pytest.mark.parametrize("place", ["headers", "delivery_info", "message"])
def test_a_message_that_kombu_put_back_is_redelivered(place: str) -> None:
    """kombu marks it in the headers and in the delivery info, its other transports on top."""
    message = json.loads(encode(b"b", {}, "x", "k", TAG))
    marked = {
        "headers": message["headers"],
        "delivery_info": message["properties"]["delivery_info"],
        "message": message,
    }
    marked[place]["redelivered"] = True
    assert decode(json.dumps(message).encode()).redelivered


FOREIGN = [
    ("no delivery info", {"body": "YQ==", "properties": {"body_encoding": "base64"}}, b"a", ("", "q")),
    ("no encoding", {"body": "é", "properties": {}}, "é".encode(), ("", "q")),
    ("upper case", {"body": "a", "properties": {"body_encoding": "UTF-8"}}, b"a", ("", "q")),
    ("empty encoding", {"body": "a", "properties": {"body_encoding": ""}}, b"a", ("", "q")),
    ("no body", {"properties": {"body_encoding": "base64"}}, b"", ("", "q")),
    ("null body", {"body": None, "properties": {"body_encoding": "base64"}}, b"", ("", "q")),
    ("no headers", {"body": "", "headers": None, "properties": {"body_encoding": "base64"}}, b"", ("", "q")),
    ("lines", {"body": "YWJj\nZGVm\r\n", "properties": {"body_encoding": "base64"}}, b"abcdef", ("", "q")),
    ("no exchange", {"properties": {"delivery_info": {"exchange": None, "routing_key": "k"}}}, b"", ("", "k")),
    ("no key", {"properties": {"delivery_info": {"exchange": "x"}}}, b"", ("x", "")),
    ("nulls", {"content-type": None, "properties": {"reply_to": None, "correlation_id": None}}, b"", ("", "q")),
    ("no tag", {"properties": {"delivery_tag": 7}}, b"", ("", "q")),
]


@pytest.mark.parametrize(("message", "body", "way"), [case[1:] for case in FOREIGN], ids=[case[0] for case in FOREIGN])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["kombu's", "compact"])
def test_other_producers_are_understood(
    message: dict[str, Any], body: bytes, way: tuple[str, str], separators: tuple[str, str]
) -> None:
    """Those in other languages leave things out, and stock kombu's consumers do without them as well."""
    envelope = decode(json.dumps(message, separators=separators).encode(), queue="q")
    assert envelope.body == body
    assert (envelope.exchange, envelope.routing_key) == way
    assert None not in envelope.properties.values()
    assert envelope.properties["headers"] == {}
    assert envelope.delivery_tag == ""


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
@pytest.mark.parametrize("encoding", ["base64", None])
@pytest.mark.parametrize("body", ['a\\", "properties": {"x": 1}, "y": "', "YWJj", 'q"q', "\\u0041"])
def test_a_body_never_ends_early(separators: tuple[str, str], encoding: str | None, body: str) -> None:
    """Whatever the body looks like: it is cut out before the JSON is read only where that's the same."""
    message = {"body": base64.b64encode(body.encode()).decode() if encoding else body}
    message["properties"] = {"body_encoding": encoding, "reply_to": "r"}  # type: ignore[assignment]
    envelope = decode(json.dumps(message, separators=separators).encode())
    assert envelope.body == body.encode()
    assert envelope.properties == {"reply_to": "r", "headers": {}}


def test_the_last_of_two_bodies_counts() -> None:
    """As for kombu: JSON says nothing about keys given twice, and Python's reader takes the last."""
    raw = b'{"body": "YQ==", "properties": {"body_encoding": "base64"}, "body": "Yg=="}'
    assert decode(raw).body == b"b"


GARBAGE = [
    b"",
    b"garbage",
    b"\xff\xfe",
    b"null",
    b"7",
    b'"text"',
    b"[]",
    b"{}",
    b'{"body": "YQ=="}',
    b'{"body": "YQ==", }',
    b'{"properties": null}',
    b'{"properties": []}',
    b'{"properties": {"__type__": "uuid", "__value__": {}}}',
    b'{"properties": {"x": {"__type__": "nobody knows", "__value__": 1}}}',
    b'{"properties": {"x": {"__type__": "decimal", "__value__": "one"}}}',
    b'{"properties": {}, "headers": []}',
    b'{"properties": {}, "headers": "a"}',
    b'{"properties": {"body_encoding": "base64"}, "body": "YQ"}',
    b'{"body": "YQ", "properties": {"body_encoding": "base64"}}',
    b'{"body": "Y-_=", "properties": {"body_encoding": "base64"}}',
    '{"body": "é", "properties": {"body_encoding": "base64"}}'.encode(),
    b'{"body": 7, "properties": {"body_encoding": "base64"}}',
    b'{"body": {"a": 1}, "properties": {}}',
    b'{"body": "a", "properties": {"body_encoding": "rot13"}}',
    b'{"body": "a", "properties": {"body_encoding": 7}}',
    b'{"body": "\\ud800", "properties": {}}',
    b'{"properties": {"delivery_info": []}}',
    b'{"properties": {"delivery_info": {"exchange": 7}}}',
    b'{"properties": {"delivery_info": {"routing_key": ["k"]}}}',
    b'{"properties": {"delivery_info": {"routing_key": "\\udfff"}}}',
    b"[" * 100_000,
    b'{"properties": ' * 100_000,
    b'{"properties": {"timestamp": ' + b"9" * 10_000 + b"}}",
]


@pytest.mark.parametrize("raw", GARBAGE, ids=lambda raw: repr(raw[:40]))
def test_garbage_is_named_not_shown(raw: bytes) -> None:
    """The reason is one short line without the content, which may be a secret."""
    with pytest.raises(UndecodableEnvelope) as caught:
        decode(raw)
    reason = str(caught.value)
    assert reason
    assert len(reason) < 120
    assert len(raw) < 20 or raw.decode(errors="replace") not in reason


class Fragile:
    """An application's type, whose decoder fails as it likes."""


def fails(name: str) -> Fragile:
    raise {"memory": MemoryError, "any": RuntimeError}[name]


def test_an_applications_types_may_fail_to_decode() -> None:
    """In any way, and only their message suffers; but a lack of memory says nothing about the message."""
    register_type(Fragile, "tests.fragile", repr, fails)
    written = '{"properties": {"x": {"__type__": "tests.fragile", "__value__": "%s"}}}'
    with pytest.raises(UndecodableEnvelope):
        decode((written % "any").encode())
    with pytest.raises(MemoryError):
        decode((written % "memory").encode())


def check_reads_or_refuses(raw: bytes) -> None:
    try:
        envelope = decode(raw, queue="q", counted=True)
    except UndecodableEnvelope:
        return
    assert type(envelope) is Envelope
    assert type(envelope.body) is bytes
    assert type(envelope.properties["headers"]) is dict
    envelope.exchange.encode()
    envelope.routing_key.encode()


@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Nothing else is ever raised: one bad message must not cost a connection."""
    check_reads_or_refuses(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            *("body", "properties", "headers", "delivery_info", "exchange", "routing_key", "body_encoding"),
            *("kombu_actors", "content-type", "__type__", "__value__", "delivery_tag"),
        ])
        | st.text(max_size=3),
        inner | st.sampled_from(["base64", "datetime", "uuid", "decimal", "bytes", "date", "time"]),
        max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip


@given(
    st.fixed_dictionaries({"body": JSON, "properties": JSON}, optional={"headers": JSON, "kombu_actors": JSON}) | JSON
)
def test_any_json_is_read_or_refused(message: Any) -> None:
    """Right keys with wrong values, envelopes of extended types in wrong places."""
    check_reads_or_refuses(json.dumps(message).encode())


WHOLE = suffixed(encode(b"hello world", ALL_PROPERTIES, "ex", "key", TAG))


@given(st.data())
def test_damaged_envelopes_are_read_or_refused(data: st.DataObject) -> None:
    """Bytes changed, inserted and lost anywhere."""
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["change", "insert", "cut"])):
            case "change":
                raw[at] = data.draw(st.integers(0, 255))
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=8))
            case _:
                del raw[at : at + data.draw(st.integers(1, 40))]
    check_reads_or_refuses(bytes(raw))


def test_a_type_nobody_knows_is_refused_before_anything_is_written() -> None:
    """As ``json`` does it; preparing a message finds this out before."""
    with pytest.raises(TypeError):
        encode(b"", {"headers": {"a": object()}}, "x", "k", TAG)
