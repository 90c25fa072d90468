"""Two fleets, one of kombu and one of kombu_actors, on one broker: each message arrives as the other sent it.

Every serializer, compression and property, in both directions, by publishing and consuming over
RabbitMQ.  That the JSON of every extended type is the same bytes is tested in ``tests/facade``.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from itertools import product
from typing import Any

import amqp
import pytest

from tests.support.brokers import RabbitMQNode

SERIALIZERS = ("json", "pickle", "yaml", "msgpack", "raw")
COMPRESSIONS = (None, "zlib", "gzip", "bzip2", "bz2", "lzma", "xz", "brotli", "zstd")
PEERS = ("kombu", "kombu_actors")
ACCEPT = ["json", "pickle", "yaml", "msgpack", "application/data", "text/plain"]
PROPERTIES: dict[str, Any] = {
    "priority": 7,
    "expiration": 90,
    "correlation_id": "c-é",
    "reply_to": "answers",
    "message_id": "m-1",
    "timestamp": 1767322800,
    "type": "greeting",
    "app_id": "tests",
    "user_id": "guest",
    "cluster_id": "one",
    "delivery_mode": 1,
}
HEADERS: dict[str, Any] = {
    "text": "é",
    "number": 2**40,
    "negative": -5,
    "float": 1.5,
    "yes": True,
    "nothing": None,
    "bytes": b"\xff",
    "list": [1, "a", [2]],
    "table": {"deep": {"er": [{"x": 1}]}},
    "decimal": decimal.Decimal("1.25"),
    "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC).replace(tzinfo=None),
    "x" * 200: "y" * 3000,
}
BODIES: list[Any] = [
    {"a": [1, None, "é"], "b": {"c": 1.5}},
    [],
    "text é",
    b"\x00\xff",
    None,
    0,
    "x" * 300_000,
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC),
    datetime.date(2026, 1, 2),
    datetime.time(3, 4, 5, 6),
    decimal.Decimal("1.10"),
    uuid.UUID(int=2**127),
    {"nested": [uuid.UUID(int=1), decimal.Decimal("0"), b"\xff"]},
]


@pytest.fixture(autouse=True)
def everything_enabled() -> Iterator[None]:
    """Both fleets trust each other here."""
    for name in PEERS:
        import_module(name).enable_insecure_serializers(["pickle", "yaml", "msgpack"])
    yield
    for name in PEERS:
        import_module(name).disable_insecure_serializers(["json"])


@pytest.fixture(scope="module")
def fleets(rabbitmq: RabbitMQNode) -> Iterator[dict[str, Any]]:
    """A connection of each library to the same virtual host."""
    rabbitmq.add_vhost("interop")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                import_module(name).Connection(
                    rabbitmq.url(vhost="interop"), transport_options={"confirm_publish": True}
                )
            )
            for name in PEERS
        }
    rabbitmq.delete_vhost("interop")


@pytest.fixture(params=list(product(PEERS, PEERS)), ids=lambda pair: f"{pair[0]}-to-{pair[1]}")
def exchange(request: pytest.FixtureRequest, fleets: dict[str, Any]) -> Callable[..., Any]:
    """Publish with one library, consume with the other: ``exchange(body, **options)`` is the message."""
    sender, receiver = request.param
    name = f"{sender}-{receiver}"

    def queue(library: str) -> Any:
        package = import_module(library)
        return package.Queue(name, package.Exchange(name, "topic"), "from.#", max_priority=10)

    def exchange(body: Any, **options: Any) -> Any:
        taken: list[Any] = []
        fleets[sender].Producer(exchange=queue(sender).exchange).publish(
            body, routing_key="from.one", declare=[queue(sender)], **options
        )
        with fleets[receiver].Consumer(queue(receiver), on_message=taken.append, accept=ACCEPT):
            while not taken:
                fleets[receiver].drain_events(timeout=10)
        taken[0].ack()
        return taken[0]

    return exchange


def available(library: str, compression: str | None) -> bool:
    return (
        compression is None
        or compression in import_module(f"{library}.compression").encoders()
        or (compression in import_module(f"{library}.compression")._aliases)
    )


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_bodies_of_every_serializer_and_compression(exchange: Callable[..., Any], serializer: str) -> None:
    """Decoded, they are equal; what the message says of itself is the same."""
    body: Any = b"\x00\xff" if serializer == "raw" else {"a": [1, None, "é", 2.5], "b": "x" * 1000}
    tried = 0
    for compression in COMPRESSIONS:
        if not all(available(peer, compression) for peer in PEERS):
            continue
        tried += 1
        message = exchange(body, serializer=serializer, compression=compression)
        assert message.payload == body, compression
        assert ("compression" in message.headers) is (compression is not None)
    assert tried >= 5


@pytest.mark.parametrize("body", BODIES, ids=lambda body: f"{type(body).__name__}-{str(body)[:12]}")
def test_bodies_of_every_kind(exchange: Callable[..., Any], body: Any) -> None:
    """Extended JSON types included: value and type survive."""
    payload = exchange(body).payload
    assert payload == body
    assert type(payload) is type(body)


def test_every_property_arrives(exchange: Callable[..., Any]) -> None:
    """As it was given; the expiration in milliseconds, as AMQP has it."""
    message = exchange({"a": 1}, headers=dict(HEADERS), **PROPERTIES)
    assert {name: message.properties[name] for name in PROPERTIES} == {**PROPERTIES, "expiration": "90000"}
    assert message.headers == HEADERS
    assert {name: type(value) for name, value in message.headers.items()} == {
        name: type(value) for name, value in HEADERS.items()
    }
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    info = message.delivery_info
    assert (info["routing_key"], info["redelivered"]) == ("from.one", False)
    assert info["exchange"].count("kombu") == 2
    assert isinstance(info["consumer_tag"], str)
    assert isinstance(info["delivery_tag"], int)


def test_a_receiver_cannot_tell_the_senders_apart(fleets: dict[str, Any], rabbitmq: RabbitMQNode) -> None:
    """Read by py-amqp itself: properties, body and their types are the same from both."""
    seen: list[list[Any]] = []
    for name in PEERS:
        package = import_module(name)
        queue = package.Queue(f"seen-{name}", durable=True)
        producer = fleets[name].Producer()
        for serializer, compression in product(SERIALIZERS[:1] + SERIALIZERS[2:], (None, "zlib", "bzip2")):
            body = b"\xff" if serializer == "raw" else {"a": [1, "é"]}
            producer.publish(
                body, routing_key=queue.name, declare=[queue], serializer=serializer, compression=compression,
                headers=dict(HEADERS), **PROPERTIES,  # kombu writes into the dict
            )  # fmt: skip
        connection = amqp.Connection(f"127.0.0.1:{rabbitmq.port}", virtual_host="interop")
        with connection:
            channel = connection.channel()
            found = []
            while (message := channel.basic_get(queue.name, no_ack=True)) is not None:
                found.append((message.properties, message.body))
        seen.append(found)
    assert len(seen[0]) == 12
    for theirs, ours in zip(*seen, strict=True):
        assert ours == theirs


def test_one_queue_shared_by_both_fleets_loses_nothing(fleets: dict[str, Any]) -> None:
    """Workers of both take from it, producers of both fill it; every message is handled once."""
    handled: dict[str, list[int]] = {name: [] for name in PEERS}
    with ExitStack() as stack:
        for name in PEERS:
            package = import_module(name)

            def handle(body: int, message: Any, mine: list[int] = handled[name]) -> None:
                mine.append(body)
                message.ack()

            queue = package.Queue("shared", package.Exchange("shared"), "shared")
            stack.enter_context(fleets[name].Consumer(queue, callbacks=[handle], prefetch_count=5))
        for number in range(200):
            fleets[PEERS[number % 2]].Producer().publish(number, exchange="shared", routing_key="shared")
        while sum(map(len, handled.values())) < 200:
            for connection in fleets.values():
                try:
                    connection.drain_events(timeout=0.05)
                except TimeoutError:
                    continue
    assert sorted(handled["kombu"] + handled["kombu_actors"]) == list(range(200))
    assert min(map(len, handled.values())) > 0


def test_a_request_is_answered_by_the_other_fleet(fleets: dict[str, Any]) -> None:
    """``reply_to`` and ``correlation_id``, there and back."""
    for asking, answering in (PEERS, PEERS[::-1]):
        client, server = import_module(asking), import_module(answering)
        answers: list[Any] = []
        replies = client.Queue(f"replies-{asking}", exclusive=True)

        def serve(body: Any, message: Any, connection: Any = fleets[answering]) -> None:
            connection.Producer().publish(
                body * 2, routing_key=message.properties["reply_to"],
                correlation_id=message.properties["correlation_id"],
            )  # fmt: skip
            message.ack()

        requests = server.Queue(f"requests-{answering}", durable=True)
        with (
            fleets[answering].Consumer(requests, callbacks=[serve]),
            fleets[asking].Consumer(
                replies, on_message=lambda message, into=answers: into.append(message), no_ack=True
            ),
        ):
            fleets[asking].Producer().publish(21, routing_key=requests.name, reply_to=replies.name, correlation_id="42")
            fleets[answering].drain_events(timeout=10)
            fleets[asking].drain_events(timeout=10)
        assert (answers[0].payload, answers[0].properties["correlation_id"]) == (42, "42")
