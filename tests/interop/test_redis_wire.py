"""What lies in Redis is the same bytes, whichever library wrote it, but for the delivery tag that each makes up."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from .redis_crews import PEERS, Ground

TAG = re.compile(rb'("delivery_tag": )"[0-9a-f-]{36}"')
NOTE = re.compile(rb',"kombu_actors":\[0,0\]\}$')
"""Ours is told from a stock publisher's by this, where it matters: on broadcasts."""
MORTAL = re.compile(rb',"kombu_actors":\[0,\d+\]\}$')
TEXT_AS_BYTES = re.compile(
    rb'(\{"body": )\{"__type__": "bytes", "__value__": ("(?:[^"\\]|\\.)*")\}(?=, .*"text/plain")'
)
"""Without base64 kombu writes a text body that was not serialized like this; the text itself means the same to it."""

HEADERS: dict[str, Any] = {
    "text": 'é"\\\n\u2028</script>',
    "number": 2**62,
    "float": 1.5,
    "tiny": 1e-300,
    "yes": True,
    "nothing": None,
    "list": [1, "a", [2, []], {}],
    "table": {"deep": {"er": [{"x": 1}]}, "": 0},
    "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("1.10"),
    "bytes": b"\xff",
    "delivery_info": '"delivery_info": {"exchange": "x"}, "kombu_actors":[7,7]',
}
TABLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "object": ({"a": [1, None, "é"], "b": {"c": 1.5}}, {}),
    "empty list": ([], {}),
    "empty object": ({}, {}),
    "text": ("text é", {}),
    "nothing": (None, {}),
    "zero": (0, {}),
    "large": ("x" * 100_000, {}),
    "bytes": (b"\x00\xff", {}),
    "extended": ([datetime.date(2026, 1, 2), decimal.Decimal("1.10"), uuid.UUID(int=2**127)], {}),
    "raw": (b"\x00\xff", {"serializer": "raw"}),
    "raw text": ("é", {"content_type": "text/plain", "content_encoding": "utf-8"}),
    "raw unnamed": (b"\xff", {"content_type": "application/x-thing", "content_encoding": "binary"}),
    "pickle": ({"a": (1, 2)}, {"serializer": "pickle"}),
    "yaml": ({"a": [1, 2]}, {"serializer": "yaml"}),
    "msgpack": ({"a": [1, 2]}, {"serializer": "msgpack"}),
    "zlib": ({"a": "x" * 1000}, {"compression": "zlib"}),
    "bzip2": ({"a": "x" * 1000}, {"compression": "bzip2"}),
    "headers": (1, {"headers": HEADERS}),
    "no headers": (1, {"headers": {}}),
    "priority": (1, {"priority": 7}),
    "high priority": (1, {"priority": 255}),
    "transient": (1, {"delivery_mode": 1}),
    "named mode": (1, {"delivery_mode": "transient"}),
    "expiration": (1, {"expiration": 90}),
    "short expiration": (1, {"expiration": 0.5}),
    "properties": (
        1,
        {
            "correlation_id": "c-é",
            "reply_to": "answers",
            "message_id": "m-1",
            "timestamp": 1767322800,
            "type": "greeting",
            "app_id": "tests",
            "user_id": "guest",
            "cluster_id": "one",
        },
    ),
    "text that ends like a message": ('"}, "properties": {"delivery_info": {}}}', {}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "plain bodies": {"body_encoding": None},
    "utf-8 bodies": {"body_encoding": "utf-8"},
}


@pytest.fixture(autouse=True)
def everything_enabled() -> Iterator[None]:
    """Both fleets trust each other here."""
    for name in PEERS:
        import_module(name).enable_insecure_serializers(["pickle", "yaml", "msgpack"])
    yield
    for name in PEERS:
        import_module(name).disable_insecure_serializers(["json"])


def lists(ground: Ground) -> dict[bytes, list[bytes]]:
    """Every queue's messages, oldest first, without their tags."""
    return {
        key: [TAG.sub(rb'\1""', raw) for raw in ground.client.lrange(key, 0, -1)][::-1]
        for key in ground.client.scan_iter()
        if ground.client.type(key) == b"list"
    }


def of_both(
    ground: Ground, act: Callable[[Any, Any], None], look: Callable[[Ground], Any], **options: Any
) -> list[Any]:
    """Do it with kombu, look; do it with ours, look."""
    seen = []
    for library in PEERS:
        ground.client.flushall()
        with ground.connect(library, **options) as connection:
            act(import_module(library), connection)
            seen.append(look(ground))
    return seen


@pytest.mark.parametrize("options", OPTIONS)
def test_messages_are_the_same_bytes(ground: Ground, options: str) -> None:
    """For every kind of body, serializer, compression, header and property; in the same lists."""

    def publish(package: Any, connection: Any) -> None:
        producer = connection.Producer()
        for name, (body, properties) in TABLE.items():
            kept = {**properties, **({"headers": dict(properties["headers"])} if "headers" in properties else {})}
            queue = package.Queue(name, package.Exchange("ways", "direct"), f"to {name}")
            producer.publish(body, exchange="ways", routing_key=f"to {name}", declare=[queue], **kept)
            producer.publish(body, routing_key=name, **kept)

    theirs, ours = of_both(ground, publish, lists, **OPTIONS[options])
    assert len(theirs) == len(TABLE)
    assert sorted(ours) == sorted(theirs)
    for key, messages in theirs.items():
        if b"expiration" in key:  # ours are noted as mortal: kombu lets nothing expire here
            ours[key] = [MORTAL.sub(b"}", raw) for raw in ours[key]]
        assert ours[key] == [TEXT_AS_BYTES.sub(rb"\1\2", raw) for raw in messages], key


def test_broadcasts_are_the_same_bytes(ground: Ground) -> None:
    """On the same topics, but for the note that tells ours from a stock publisher's."""
    heard: list[list[Any]] = []

    def publish(package: Any, connection: Any) -> None:
        with ground.client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.psubscribe("*")
            pubsub.get_message(timeout=5)
            producer = connection.Producer()
            for key in ("", "a.b"):
                producer.publish({"a": "é"}, exchange="radio", routing_key=key, headers={"x": 1},
                                 declare=[package.Exchange("radio", "fanout")])  # fmt: skip
            found: list[Any] = []
            while len(found) < 2:
                message = pubsub.get_message(timeout=5)
                if message is not None and message["channel"].startswith(b"/"):
                    found.append((message["channel"], NOTE.sub(b"}", TAG.sub(rb'\1""', message["data"]))))
            heard.append(found)

    of_both(ground, publish, lambda _: None)
    assert heard[0] == heard[1]
    assert [topic for topic, _ in heard[0]] == [b"/0.radio", b"/0.radio/a.b"]


def test_bindings_are_the_same_members_of_the_same_sets(ground: Ground) -> None:
    """kombu's table of each exchange, and the set that keeps it from being swept."""

    def bind(package: Any, connection: Any) -> None:
        for kind, key in (("direct", "k"), ("topic", "a.*.#"), ("topic", "x-y.z"), ("fanout", ""), ("fanout", "a.#")):
            package.Queue(f"q-{kind}-{key}", package.Exchange(kind, kind), key)(connection.default_channel).declare()

    def tables(ground: Ground) -> dict[bytes, set[bytes]]:
        return {key: ground.client.smembers(key) for key in ground.client.keys("_kombu.*")}

    theirs, ours = of_both(ground, bind, tables)
    assert ours == theirs
    assert len(theirs) == 6


def test_an_unacknowledged_message_is_written_as_kombu_writes_it(ground: Ground) -> None:
    """In the same hash and index; its place there says where to put it back."""

    def take(package: Any, connection: Any) -> None:
        queue = package.Queue("shared", package.Exchange("ways", "direct"), "k")
        connection.Producer().publish({"a": "é"}, exchange="ways", routing_key="k", declare=[queue])
        assert queue(connection.default_channel).get() is not None

    def unacked(ground: Ground) -> tuple[Any, str, str]:
        ((field, value),) = ground.client.hgetall("unacked").items()
        ((member, score),) = ground.client.zrange("unacked_index", 0, -1, withscores=True)
        assert field == member
        assert abs(score - ground.client.time()[0]) < 5
        raw, exchange, key = json.loads(value)
        raw["properties"]["delivery_tag"] = ""
        return raw, exchange, key

    theirs, ours = of_both(ground, take, unacked)
    assert theirs == (ours[0], "ways", "k")
    assert ours[1:] == ("", "shared")
