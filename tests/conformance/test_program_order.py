"""Whoever published something and then asks finds it, over whichever channel of the connection it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from kombu_actors import Connection
from kombu_actors.broker import Broker

from .native import drained, fill, queue, to_queue
from .realms import Realm

MANY = 150
"""Publishes in a row: more than go out at once, fewer than a window."""
ROUNDS = 8


@pytest.fixture
def connection(realm: Realm) -> Iterator[Connection]:
    """A connection whose publishes return before the broker has the message."""
    with realm.connect() as connection:
        yield connection


@pytest.fixture(params=["another", "the same"])
def channels(connection: Connection, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """The channel that publishes, and the one that asks."""
    publishing = connection.channel()
    return publishing, publishing if request.param == "the same" else connection.channel()


def publish(channel: Any, number: int, *, key: str = "q", exchange: str = "") -> None:
    """Some messages to a queue, by way of an exchange or not."""
    for _ in range(number):
        channel.basic_publish(channel.prepare_message(b"x" * 100), exchange=exchange, routing_key=key)


@pytest.mark.parametrize("number", [1, MANY])
@pytest.mark.parametrize(
    "question",
    [
        lambda channel: channel.queue_declare("q", passive=True).message_count,
        lambda channel: channel.queue_declare("q", durable=True, auto_delete=False).message_count,
        lambda channel: channel.queue_purge("q"),
        lambda channel: channel.queue_delete("q"),
    ],
    ids=["passive", "declare", "purge", "delete"],
)
def test_who_counts_finds_what_was_published(
    channels: tuple[Any, Any], question: Callable[[Any], int], number: int
) -> None:
    """All of it: asked passively, by a declaration, a purge, a deletion."""
    publishing, asking = channels
    for _ in range(ROUNDS):
        publishing.queue_declare("q", durable=True, auto_delete=False)
        publishing.queue_purge("q")
        publish(publishing, number)
        assert question(asking) == number


@pytest.mark.parametrize("number", [1, MANY])
def test_who_gets_finds_what_was_published(channels: tuple[Any, Any], number: int) -> None:
    """Also the last of many, which is in a queue of its own."""
    publishing, asking = channels
    for name in ("q", "last"):
        publishing.queue_declare(name, durable=True, auto_delete=False)
    for _ in range(ROUNDS):
        publish(publishing, number - 1)
        publish(publishing, 1, key="last")
        assert asking.basic_get("last", no_ack=True) is not None
        assert asking.basic_get("last", no_ack=True) is None
    assert asking.queue_purge("q") == (number - 1) * ROUNDS


@pytest.mark.parametrize("end", ["unbind", "delete the exchange"])
def test_what_was_published_before_the_way_ends_arrives(channels: tuple[Any, Any], end: str) -> None:
    """And what was published before a binding was made does not."""
    publishing, asking = channels
    publishing.queue_declare("q", durable=True, auto_delete=False)
    for _ in range(ROUNDS):
        publishing.exchange_declare("x", durable=True, auto_delete=False)
        publish(publishing, MANY, exchange="x")
        asking.queue_bind("q", "x", "q")
        publish(publishing, MANY, exchange="x")
        if end == "unbind":
            asking.queue_unbind("q", "x", "q")
        else:
            asking.exchange_delete("x")
        assert asking.queue_purge("q") == MANY


def test_a_simple_queue_counts_what_another_put(connection: Connection) -> None:
    """``qsize``, ``clear`` and ``get_nowait``."""
    numbers = count()
    mine, other = connection.SimpleQueue("q"), connection.SimpleQueue("q")
    for _ in range(ROUNDS):
        for _ in range(3):
            other.put(next(numbers))
        assert mine.qsize() == 3
        mine.get_nowait().ack()
        other.put(next(numbers))
        assert mine.clear() == 3
    mine.close()
    other.close()


async def test_a_native_publish_is_found_by_whatever_comes_after(broker: Broker) -> None:
    """Count, purge, unbind, deletion."""
    for _ in range(ROUNDS):
        await queue(broker, "q")
        await broker.declare(to_queue("q", "amq.direct", "k"))
        await broker.publish(1, exchange="amq.direct", routing_key="k")
        await broker.unbind(to_queue("q", "amq.direct", "k"))
        await fill(broker, "q", 2)
        assert (await broker.inspect_queue("q")).messages == 2
        assert await broker.purge_queue("q") == 2
        await fill(broker, "q", 3)
        assert await drained(broker, "q") == [3]
        await fill(broker, "q", 4)
        assert await broker.delete_queue("q") == 1
