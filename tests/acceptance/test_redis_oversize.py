"""What is larger than ``body_max`` is never received over Redis: it dies once, and the next message comes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from amqp.exceptions import ContentTooLarge

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.transport.redis.replies import BULK_MIN
from tests.support.brokers import RedisNode

kombu: Any = import_module("kombu")

BODY_MAX = 100_000
BEYOND = [BODY_MAX + 1, 2 * BULK_MIN]
"""Bytes: one too many, and more than can be taken in at all."""
LIMITS = {"body_max": BODY_MAX}
RAW: dict[str, Any] = {"content_type": "application/data", "content_encoding": "binary"}
DEAD = Queue("dead", Exchange("dead"), "q")
DYING = {"x-dead-letter-exchange": "dead"}


@pytest.fixture
def connection(redis_url: str) -> Iterator[Connection]:
    """One that receives up to ``BODY_MAX``."""
    with Connection(redis_url, transport_options=LIMITS) as connection:
        yield connection


@pytest.fixture
def stock(redis_url: str) -> Iterator[Callable[..., None]]:
    """Publish to a queue as stock kombu does: it knows no limit."""
    with kombu.Connection(redis_url) as connection:
        producer = connection.Producer()

        def publish(*bodies: bytes, queue: str = "q") -> None:
            for body in bodies:
                producer.publish(body, routing_key=queue, **RAW)

        yield publish


def output(node: RedisNode) -> int:
    """How many bytes the server has sent."""
    found: bytes = node.ask("INFO", "stats")
    return int(found.split(b"total_net_output_bytes:")[1].split()[0])


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors logged."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def get(queue: Queue) -> Any:
    """The next message, None if that was too large."""
    try:
        message = queue.get(accept=["application/data"])
    except ContentTooLarge:
        return None
    assert message is not None
    return message


@pytest.mark.parametrize("how", ["ack", "no_ack", "get"])
@pytest.mark.parametrize("size", BEYOND)
def test_a_message_beyond_the_limit_goes_and_the_next_comes(
    how: str, size: int, redis_server: RedisNode, connection: Connection, stock: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Without dead letter exchange it is dropped; an ERROR names queue, size and limit.  It is not sent to anybody,
    no session ends, and nothing is left behind."""
    largest = b"y" * BODY_MAX
    stock(b"first", b"x" * size, b"x" * size, largest)
    Queue("q")(connection).declare()
    handle = connection.connection
    assert handle is not None
    sent = output(redis_server)
    got: list[bytes] = []
    if how == "get":
        queue = Queue("q")(connection)
        for _ in range(2):
            while (message := get(queue)) is None:
                pass
            got.append(bytes(message.body))
            message.ack()
        assert queue.get() is None
    else:

        def take(body: Any, message: Any) -> None:
            got.append(bytes(body))
            if how == "ack":
                message.ack()

        with connection.Consumer(
            [Queue("q")], callbacks=[take], accept=["application/data"], no_ack=how == "no_ack", prefetch_count=10
        ):
            while len(got) < 2:
                connection.drain_events(timeout=10)
    assert got == [b"first", largest]
    complaints = told(caplog)
    assert len(complaints) == 2
    fate = "lost" if how == "no_ack" else "rejected"
    for words in ("queue 'q'", f"{size} bytes", f"body_max, {BODY_MAX}", "routing key 'q'", fate):
        assert words in complaints[0]
    assert handle.sessions == 1
    assert output(redis_server) - sent < 2 * BODY_MAX
    connection.release()
    assert redis_server.ask("EXISTS", "q", "unacked", "unacked_index") == 0


@pytest.mark.parametrize("size", BEYOND)
@pytest.mark.parametrize("reason", ["rejected", "expired"])
def test_what_is_too_large_becomes_a_whole_dead_letter(
    reason: str, size: int, redis_url: str, connection: Connection, stock: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Where its queue has a dead letter exchange: with its body, properties and ``x-death``, for stock kombu, too."""
    ttl = {"x-message-ttl": 1} if reason == "expired" else {}
    with Connection(redis_url) as large:
        DEAD(large).declare()
        Queue("q", queue_arguments={**DYING, **ttl})(connection).declare()
        body = bytes(range(256)) * (size // 256 + 1)
        if reason == "expired":
            large.Producer().publish(body, routing_key="q", headers={"mine": [1, "é"]}, priority=3, **RAW)
        else:
            stock(body)
        with connection.Consumer([Queue("q", no_declare=True)], on_message=print):
            letters: list[Any] = []
            with large.Consumer([DEAD], on_message=letters.append, accept=["application/data"]):
                while not letters:
                    large.drain_events(timeout=10)
            (letter,) = letters
            assert bytes(letter.body) == body
            assert letter.headers["x-death"][0]["reason"] == reason
            assert letter.headers["x-death"][0]["queue"] == "q"
            assert letter.content_type == "application/data"
            if reason == "expired":
                assert letter.headers["mine"] == [1, "é"]
                assert letter.properties["priority"] == 3
            else:
                assert "rejected" in told(caplog)[0]
            letter.requeue()
    with kombu.Connection(redis_url) as old:
        message = old.SimpleQueue(kombu.Queue("dead"), no_ack=True).get(timeout=5)
        assert bytes(message.body) == body


def test_a_body_written_as_text_is_held_to_the_same_limit(
    redis_url: str, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """``body_encoding`` "utf-8", where quotes and letters take more room in the envelope than in the body."""
    options = {"body_encoding": "utf-8"}
    bodies = ['"é' * (BODY_MAX // 3), "e" * (BODY_MAX + 1), '"' * (BODY_MAX + 1), "\\" * (2 * BULK_MIN), "last"]
    with Connection(redis_url, transport_options=options) as publisher:
        DEAD(publisher).declare()
        Queue("q", queue_arguments=DYING)(publisher).declare()
        for body in bodies:
            publisher.Producer().publish(body, routing_key="q", content_type="text/plain")
    got: list[str] = []
    with connection.Consumer([Queue("q", no_declare=True)], callbacks=[lambda body, message: got.append(body)]):
        while len(got) < 2:
            connection.drain_events(timeout=10)
    assert got == [bodies[0], "last"]
    assert len(told(caplog)) == 3
    letters: list[str] = []
    with Connection(redis_url) as large, large.Consumer([DEAD], callbacks=[lambda body, _: letters.append(body)]):
        while len(letters) < 3:
            large.drain_events(timeout=10)
    assert sorted(letters) == sorted(bodies[1:4])


def test_a_broadcast_beyond_the_limit_is_dropped_and_the_next_one_heard(
    redis_url: str, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else has it; the session lives."""
    exchange = Exchange("news", "fanout")
    got: list[bytes] = []
    with (
        Connection(redis_url) as publisher,
        connection.Consumer(
            [Queue("heard", exchange, auto_delete=True)],
            callbacks=[lambda body, _: got.append(bytes(body))],
            accept=["application/data"],
            no_ack=True,
        ),
    ):
        for body in (b"x" * BEYOND[0], b"next"):
            publisher.Producer().publish(body, exchange=exchange, **RAW)
        connection.drain_events(timeout=10)
    assert got == [b"next"]
    (complaint,) = told(caplog)
    assert "queue 'heard'" in complaint


async def test_a_native_subscription_gets_the_next_one(redis_url: str, stock: Callable[..., None]) -> None:
    """With ``open_broker(body_max=...)``."""
    stock(b"x" * BEYOND[0], b"x" * BEYOND[1], b"next")
    async with open_broker(redis_url, body_max=BODY_MAX) as broker:
        await broker.declare(QueueSpec(name="q"))
        async with broker.subscribe("q") as messages:
            message = await anext(messages)
            assert message.body == b"next"
            message.ack()


def test_what_nobody_can_read_or_cut_is_put_aside(
    redis_server: RedisNode, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A large one that kombu hasn't written, in a queue with a dead letter exchange: for people to look at."""
    DEAD(connection).declare()
    Queue("q", queue_arguments=DYING)(connection).declare()
    redis_server.ask("LPUSH", "q", b'{"x": "' + b"x" * BEYOND[1] + b'"}')
    connection.Producer().publish("next", routing_key="q")
    got: list[str] = []
    with connection.Consumer([Queue("q", no_declare=True)], callbacks=[lambda body, message: got.append(body)]):
        connection.drain_events(timeout=10)
    assert got == ["next"]
    assert "put aside" in told(caplog)[0]
    assert redis_server.ask("LLEN", "_kombu_actors.undecodable") == 1
