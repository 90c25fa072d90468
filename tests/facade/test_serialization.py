"""Bodies become kombu's bytes, and come back only if they are what the consumer takes."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import pickle
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from enum import IntEnum
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors import serialization
from kombu_actors.errors import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled
from kombu_actors.serialization import (
    disable_insecure_serializers,
    dumps,
    enable_insecure_serializers,
    loads,
    prepare_accept_content,
    registry,
)
from kombu_actors.utils import charsets
from kombu_actors.utils import json as ours
from tests.facade.oracle import json as oracle_json
from tests.facade.oracle import serialization as oracle

JSON = "application/json"
PICKLE = "application/x-python-serialize"


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """Tests may register and enable; the next one starts afresh."""
    tables: list[Any] = [
        registry._encoders, registry._decoders, registry.type_to_name, registry.name_to_type, ours._encoders,
        ours._decoders,
    ]  # fmt: skip
    before = [dict(table) for table in tables]
    disabled = set(registry._disabled_content_types)
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)
    registry._disabled_content_types.clear()
    registry._disabled_content_types.update(disabled)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.just(datetime.UTC) | st.none())
    | st.dates()
    | st.times()
)
bodies = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(bodies)
def test_json_is_kombus_byte_for_byte(body: Any) -> None:
    """Old and new processes of one fleet can't tell each other's messages apart, extended types included."""
    assert dumps(body, "json") == oracle.dumps(body, "json")


@given(bodies)
def test_json_reads_what_kombu_writes(body: Any) -> None:
    """The same value comes out as kombu would give."""
    _, _, payload = oracle.dumps(body, "json")
    assert loads(payload.encode(), JSON, "utf-8") == oracle.loads(payload, JSON, "utf-8")


@given(
    st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_the_short_cut_reads_what_the_standard_library_reads(value: Any) -> None:
    """Escapes, spaces, surrogates, NaN: the fast path is only fast."""
    for text in (json.dumps(value), json.dumps(value, indent=2) + "\n", " " + json.dumps(value)):
        assert repr(ours.loads(text.encode())) == repr(json.loads(text))


class Level(IntEnum):
    """An int to JSON."""

    HIGH = 3


class Reduced:
    """Says itself how to be written."""

    def __json__(self) -> dict[str, int]:
        return {"reduced": 1}


@pytest.mark.parametrize(
    "body",
    [
        Level.HIGH,
        {Level.HIGH: 1, 1: 2, None: 3, False: 4, 1.5: 5},
        Reduced(),
        [Reduced()],
        math.nan,
        [math.inf, -math.inf],
        "é☃\x00\ud800",
        {"a": b"\xff\x00"},
        [],
        "",
        Decimal("1E+400"),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=-7))),
    ],
)
def test_json_corner_cases_are_kombus(body: Any) -> None:
    """What Hypothesis would not draw."""
    assert ours.dumps(body) == oracle_json.dumps(body)


def test_json_keywords_reach_the_encoder() -> None:
    """``dumps`` takes ``json.dumps``'s keywords, and defaults for them."""
    assert ours.dumps({"b": 1, "a": b"x"}, sort_keys=True) == oracle_json.dumps({"b": 1, "a": b"x"}, sort_keys=True)
    assert ours.dumps([1], default_kwargs={"indent": 2}, indent=None) == "[1]"


def test_an_older_uuid_is_read() -> None:
    """kombu 5.3 added a version, which says nothing that the digits don't."""
    one = uuid.uuid4()
    text = json.dumps({"__type__": "uuid", "__value__": {"hex": one.hex, "version": 9}})
    assert ours.loads(text) == one


def test_a_registered_type_travels_both_ways() -> None:
    """With a marker in its envelope, without one as what its encoder makes."""

    class Point:
        known: ClassVar = ["x"]

        def __init__(self, x: int) -> None:
            self.x = x

    ours.register_type(Point, "point", lambda point: point.x, Point)
    assert ours.dumps(Point(3)) == '{"__type__": "point", "__value__": 3}'
    assert ours.loads(ours.dumps([Point(3)]))[0].x == 3
    ours.register_type(Point, None, lambda point: point.x)
    assert ours.dumps(Point(3)) == "3"


@pytest.mark.parametrize("key", ['"__type__"', '"\\u005f_type__"', '"__\\u0074ype__"'])
def test_an_envelope_is_recognised_however_its_name_is_spelled(key: str) -> None:
    """The fast path may not be talked into treating an extended value as a dict."""
    assert ours.loads(f'[{{{key}: "decimal", "__value__": "1.5"}}]') == [Decimal("1.5")]


@pytest.mark.parametrize("data", [b"[1]", bytearray(b"[1]"), memoryview(b"[1]"), "[1]"])
def test_any_buffer_is_read(data: Any) -> None:
    """Transports may hand over whatever holds bytes."""
    assert loads(data, JSON, "utf-8") == [1]


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\xff"',
        b"[1] garbage",
        b"\xef\xbb\xbf[1]",
        b"1" * 5001,
        b'{"__type__": ["x"], "__value__": 1}',
        b'{"__type__": "os.system", "__value__": "true"}',
        b'{"__type__": "uuid", "__value__": 1}',
        b'{"__type__": "uuid", "__value__": {"int": 1}}',
        b'{"__type__": "decimal", "__value__": "x"}',
        b'{"__type__": "datetime", "__value__": 3}',
        b'{"__type__": "base64", "__value__": "\xc3\xa9"}',
        b"\x00",
        b"{",
    ],
)
def test_whatever_is_no_json_is_a_decode_error(body: bytes) -> None:
    """One exception to catch; the payload is not in its text."""
    with pytest.raises(DecodeError) as caught:
        loads(body, JSON, "utf-8")
    assert len(str(caught.value)) < 300


@given(st.binary())
def test_random_bytes_are_read_or_refused(body: bytes) -> None:
    """No other exception escapes from a decoder."""
    with contextlib.suppress(DecodeError):
        loads(body, JSON, "utf-8")


def test_circular_and_deep_bodies_are_encode_errors() -> None:
    """Neither ends the process; the first is named."""
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(EncodeError, match="Circular reference"):
        dumps(circular)
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 100):
        deep = [deep]
    with pytest.raises(EncodeError, match="RecursionError"):
        dumps(deep)


@pytest.mark.parametrize("body", [object(), {"a": object()}, {1, 2}, {(1, 2): 3}, memoryview(b"x")])
def test_what_cannot_be_serialized_is_an_encode_error_that_names_the_type(body: Any) -> None:
    """The publish fails before anything is sent, and says why."""
    with pytest.raises(EncodeError, match=r"as application/json: TypeError: .*(object|set|tuple|memoryview)"):
        dumps(body)


@pytest.mark.parametrize(
    ("body", "serializer"),
    [
        ({"a": 1}, None), ("text", None), (b"bytes", None), (None, None), ("é", None), ("text", "json"),
        ("text", "raw"), (b"bytes", "raw"), (bytearray(b"x"), "raw"), ({"a": {1}}, "pickle"), (b"x", "pickle"),
    ],
)  # fmt: skip
def test_content_type_encoding_and_bytes_are_kombus(body: Any, serializer: str | None) -> None:
    """Without a serializer ``bytes`` and ``str`` aren't serialized; pickle's protocol is kombu's."""
    assert dumps(body, serializer) == oracle.dumps(body, serializer)


def test_yaml_and_msgpack_are_kombus() -> None:
    """The optional formats, where they are installed."""
    pytest.importorskip("yaml")
    pytest.importorskip("msgpack")
    body = {"a": [1, 2.5, None, "é"], "b": True}
    for name in ("yaml", "msgpack"):
        content_type, encoding, payload = dumps(body, name)
        assert (content_type, encoding, payload) == oracle.dumps(body, name)
        raw = payload.encode() if isinstance(payload, str) else payload
        assert loads(memoryview(raw), content_type, encoding, accept={content_type}) == body


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an ImportError in the middle of a publish."""
    for name in ("yaml", "msgpack"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(SerializerNotInstalled, match=rf"pip install 'kombu-actors\[{name}\]'"):
            dumps({}, name)


def test_an_unknown_serializer_is_an_error_that_lists_the_known_ones() -> None:
    """For publishing and in ``accept``."""
    with pytest.raises(SerializerNotInstalled, match=r"'jsno'; known: json, "):
        dumps({}, "jsno")
    with pytest.raises(SerializerNotInstalled, match="jsno"):
        prepare_accept_content(["json", "jsno"])


@pytest.mark.parametrize("content_type", [PICKLE, "application/x-yaml", "application/x-msgpack"])
@pytest.mark.parametrize("accept", [None, set(), {JSON}])
def test_code_executing_formats_are_refused_by_default(content_type: str, accept: set[str] | None) -> None:
    """With kombu's words."""
    with pytest.raises(oracle.ContentDisallowed) as theirs:
        oracle.loads(b"x", content_type, "binary", accept=accept)
    with pytest.raises(ContentDisallowed) as caught:
        loads(b"x", content_type, "binary", accept=accept)
    assert str(caught.value) == str(theirs.value)


def test_a_refused_body_reaches_no_decoder() -> None:
    """Checked first, decoded never."""
    decoded: list[bytes] = []
    serialization.register("trap", None, decoded.append, "application/x-trap")
    with pytest.raises(ContentDisallowed):
        loads(b"x", "application/x-trap", "binary", accept={JSON})
    registry.disable("trap")
    with pytest.raises(ContentDisallowed):
        loads(b"x", "application/x-trap", "binary")
    assert decoded == []
    loads(b"x", "application/x-trap", "binary", force=True)
    assert decoded == [b"x"]


def test_accept_overrides_what_is_disabled() -> None:
    """A consumer that names pickle takes pickle, and nothing else."""
    body = pickle.dumps([1])
    assert loads(body, PICKLE, "binary", accept=prepare_accept_content(["pickle"])) == [1]
    with pytest.raises(ContentDisallowed):
        loads(b"[1]", JSON, "utf-8", accept=prepare_accept_content(["pickle"]))


def test_enable_and_disable_are_kombus() -> None:
    """All three by default, or those given by name or content type; producers are never hindered."""
    body = pickle.dumps([1])
    enable_insecure_serializers()
    assert loads(body, PICKLE, "binary") == [1]
    disable_insecure_serializers()
    with pytest.raises(ContentDisallowed):
        loads(body, PICKLE, "binary")
    assert dumps([1], "pickle")[0] == PICKLE
    enable_insecure_serializers([PICKLE, "unheard-of"])
    assert loads(body, PICKLE, "binary") == [1]
    assert "application/x-yaml" in registry._disabled_content_types
    disable_insecure_serializers(allowed=["pickle"])
    assert loads(body, PICKLE, "binary") == [1]
    with pytest.raises(ContentDisallowed):
        loads(b"[1]", JSON, "utf-8")
    enable_insecure_serializers(None)
    disable_insecure_serializers(None)
    assert PICKLE in registry._disabled_content_types


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        (b"abc", None, None), (b"abc", "application/data", "binary"), (b"abc", "application/text", "utf-8"),
        ("é".encode(), "text/plain", "utf-8"), ("é".encode("latin-1"), "text/plain", "latin-1"),
        (b"abc", "foo/bar", "US-ASCII"), (b"abc", "foo/bar", "binary"), (b"", JSON, "utf-8"), ("x", "foo/bar", "utf-8"),
        ("☃".encode("utf-16"), "text/plain", "UTF-16"), (b"\x82\xa0", "text/plain", "shift_jis"),
        (b"[1]", JSON.encode(), None),
    ],
)  # fmt: skip
def test_text_and_bytes_come_back_as_kombu_gives_them(body: Any, content_type: Any, encoding: str | None) -> None:
    """Unknown content types are text in their encoding, or bytes."""
    assert loads(body, content_type, encoding) == oracle.loads(body, content_type, encoding)


@pytest.mark.parametrize(
    "encoding", ["rot13", "idna", "punycode", "unicode_escape", "utf-7", "zip", "nope", "os.path", ""]
)
def test_a_charset_is_taken_from_a_list(encoding: str) -> None:
    """Python's codec registry is no place for names from the network."""
    if not encoding:
        assert loads(b"abc", "text/plain", encoding) == "abc"
        return
    with pytest.raises(DecodeError, match="not a charset known here"):
        loads(b"abc", "text/plain", encoding)


def test_all_listed_charsets_exist() -> None:
    """A typo in the list would refuse a charset for ever."""
    for name in charsets.TEXT_CHARSETS:
        assert charsets.decode_text("x".encode(name), name.replace("_", "-").upper()) == "x"


def test_text_in_the_wrong_charset_is_a_decode_error() -> None:
    """Not a UnicodeDecodeError."""
    with pytest.raises(DecodeError, match="not text in 'us-ascii'"):
        loads(b"\xff", "text/plain", "us-ascii")


def test_a_lone_surrogate_is_an_encode_error() -> None:
    """As text it has no bytes; as JSON it has an escape."""
    for serializer in (None, "raw"):
        with pytest.raises(EncodeError, match="position 0"):
            dumps("\ud800", serializer)
    assert dumps("\ud800", "json")[2] == '"\\ud800"'


def test_an_empty_text_is_a_text() -> None:
    """kombu gives ``str`` on AMQP and ``bytes`` elsewhere."""
    for body, serializer in (("", None), (b"", None), ("", "raw")):
        content_type, encoding, payload = dumps(body, serializer)
        expected = body if serializer is None else payload
        assert loads(payload, content_type, encoding) == expected


def test_register_and_unregister() -> None:
    """A custom format is used by name, accepted by name, and gone when it is gone."""
    serialization.register("upper", str.upper, bytes.lower, "application/x-upper", "utf-8")
    assert dumps("abc", "upper") == ("application/x-upper", "utf-8", "ABC")
    assert loads(b"ABC", "application/x-upper", "utf-8") == b"abc"
    assert prepare_accept_content({"upper", "a/b"}) == {"application/x-upper", "a/b"}
    assert prepare_accept_content(None) is None
    serialization.unregister("upper")
    with pytest.raises(SerializerNotInstalled):
        dumps("abc", "upper")
    with pytest.raises(SerializerNotInstalled):
        serialization.unregister("upper")


def test_a_body_of_the_hot_path_never_builds_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes publishing cheap: no ``json.JSONEncoder`` or ``JSONDecoder`` per message."""

    def build(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("built for each message")

    monkeypatch.setattr(json.JSONEncoder, "__init__", build)
    monkeypatch.setattr(json.JSONDecoder, "__init__", build)
    _, _, payload = dumps({"a": [1, None, "é"], "when": datetime.date(2024, 1, 1)})
    assert isinstance(payload, str)
    assert loads(payload.encode(), JSON, "utf-8")["a"] == [1, None, "é"]
