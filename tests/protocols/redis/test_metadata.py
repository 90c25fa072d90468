"""Our note at an envelope's end: written, replaced and read as text, and nothing else of the message changes."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kombu_actors.protocols.redis.envelope import decode, encode

from .driver import Driver

NASTY = st.sampled_from(
    [
        ',"kombu_actors":[1,2]}',
        '"delivery_info": {',
        '"delivery_info":{"redelivered": true',
        "redelivered",
        "\\",
        '"',
        "}",
        "\u2028 é 🐇",
        "\0",
        "%d%s",
    ]
)
TEXT = NASTY | st.text(max_size=8)
NAMES = st.sampled_from(["kombu_actors", "delivery_info", "redelivered", "a"]) | TEXT
VALUES = st.recursive(
    st.sampled_from([["", ""], ["", "", ""], ["", "q"]])  # what comes after the message in a claim
    | st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
COUNTS = st.integers(0, 2**31)
MOMENTS = st.sampled_from([0, 1, 1_700_000_000_000, 2**53 - 1])


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """As stock kombu and we write them."""
    headers = draw(st.dictionaries(NAMES, VALUES, max_size=3))
    body = draw(st.binary(max_size=20) | NASTY.map(str.encode))
    encoding = draw(st.sampled_from(["base64", "utf-8", None]))
    if draw(st.booleans()):
        return encode(body, {"headers": headers}, draw(TEXT), draw(TEXT), "tag", body_encoding=encoding)
    info = draw(st.sampled_from([{}, {"exchange": "", "routing_key": "k"}, {"redelivered": True}]))
    envelope = {
        "body": body.decode("latin-1"),
        "content-encoding": None,
        "content-type": None,
        "headers": headers,
        "properties": {"delivery_info": info, "priority": 0, "delivery_tag": "tag"},
    }
    return json.dumps(envelope, ensure_ascii=draw(st.booleans())).encode()


@pytest.fixture
def lua(driver: Driver) -> Any:
    """Evaluate an expression with what lib.lua defines; its arguments are ``ARGV[6]`` and so on."""
    library = files("kombu_actors.protocols.redis").joinpath("lua", "lib.lua").read_text()
    common = driver.layout.common(driver.owner, driver.body_max)

    def evaluate(expression: str, *arguments: bytes | int) -> Any:
        return driver.client.execute_command("EVAL", f"{library}\nreturn {expression}", *common, *arguments)

    return evaluate


by_hypothesis = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


@by_hypothesis
@given(raw=envelopes(), count=COUNTS, expires=MOMENTS, more=COUNTS)
def test_the_note_is_added_replaced_and_read(lua: Any, raw: bytes, count: int, expires: int, more: int) -> None:
    """The rest stays to the byte, and JSON readers see one more key at the end."""
    noted = lua("with_metadata(ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]))", raw, count, expires)
    assert noted == raw[:-1] + b',"kombu_actors":[%d,%d]}' % (count, expires)
    assert lua("{metadata(ARGV[6])}", noted) == [count, expires, len(raw)]
    assert (
        lua("with_metadata(ARGV[6], tonumber(ARGV[7]), 0)", noted, more) == raw[:-1] + b',"kombu_actors":[%d,0]}' % more
    )
    assert lua("{metadata(ARGV[6])}", raw)[:2] == [0, 0]


@by_hypothesis
@given(raw=envelopes(), count=COUNTS, expires=MOMENTS)
def test_kombus_spelling_of_the_note_is_read(lua: Any, raw: bytes, count: int, expires: int) -> None:
    """Stock kombu writes the message anew when it restores it: spaces, and whatever it adds elsewhere."""
    noted = lua("with_metadata(ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]))", raw, count, expires)
    rewritten = json.dumps(json.loads(noted)).encode()
    assert lua("{metadata(ARGV[6])}", rewritten)[:2] == [count, expires]


@by_hypothesis
@given(raw=envelopes(), returns=st.integers(1, 3))
def test_going_back_is_noted_for_all_readers(lua: Any, raw: bytes, returns: int) -> None:
    """Counted for us, ``redelivered`` for stock kombu, said once; everything else is as it was."""
    back = raw
    for _ in range(returns):
        back = lua("(returned(ARGV[6]))", back)
    message, before = json.loads(back), json.loads(raw)
    assert message.pop("kombu_actors") == [returns, 0]
    assert message["properties"]["delivery_info"].pop("redelivered") is True
    before["properties"]["delivery_info"].pop("redelivered", None)
    assert message == before
    assert back.count(b"redelivered") - raw.count(b"redelivered") in (0, 1)
    assert len(back) - len(raw) <= len(b'"redelivered": true, ' + b',"kombu_actors":[3,0]}') - 1


@pytest.mark.parametrize("raw", [b"", b"{}", b"not json", b"[1]", b'"x"', b"\x00\xff", b"{" * 100])
def test_what_is_no_envelope_stays_as_it_is(lua: Any, raw: bytes) -> None:
    """It fails to decode as it came, not as we would have broken it."""
    assert lua("with_metadata(ARGV[6], 1, 2)", raw) == raw
    assert lua("(returned(ARGV[6]))", raw) == raw
    assert lua("{metadata(ARGV[6])}", raw)[:2] == [0, 0]


def test_numbers_survive_that_lua_could_not_hold(lua: Any) -> None:
    """Why envelopes are never decoded and encoded: 2**63 - 1, and lists without elements."""
    raw = encode(b"x", {"headers": {"n": 2**63 - 1, "empty": []}}, "", "q", "tag")
    back = lua("(returned(ARGV[6]))", raw)
    envelope = decode(back)
    assert envelope.properties["headers"] == {"n": 2**63 - 1, "empty": []}
    assert envelope.redelivered
    assert back.endswith(b',"kombu_actors":[1,0]}')


@by_hypothesis
@given(raw=envelopes(), queue=TEXT, channel=st.sampled_from(["0", "3", "3n"]))
def test_a_claim_gives_back_what_it_took(lua: Any, raw: bytes, queue: str, channel: str) -> None:
    """Whatever the names and the message: three records hold it, and none when it's gone."""
    name = queue.encode()
    found = lua(
        "(function() local seq = claim(ARGV[6], P .. ARGV[6] .. SEP .. '3', ARGV[7], ARGV[8]) "
        "local c = claimed(OWNER, seq) unclaim(OWNER, {seq}) "
        "return {c.channel, tostring(c.recorded), c.list, c.queue, envelope_of(c), tostring(claimed(OWNER, seq))} "
        "end)()",
        name, raw, channel.encode(),
    )  # fmt: skip
    assert found == [channel.encode(), b"false", name + b"\x06\x163", name, raw, b"nil"]


def test_an_error_names_the_lost_lease(driver: Driver, lua: Any) -> None:
    """The code is the first word, as Redis' own errors have it."""
    with pytest.raises(redis.exceptions.ResponseError, match=f"^FENCED {driver.owner}$"):
        lua("fenced()")
