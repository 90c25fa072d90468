"""A server that takes no writes for a while: what was decided meanwhile holds, and nobody is left holding anything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
import redis

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.message import Message
from tests.support.brokers import RedisNode
from tests.support.processes import wait_until

kombu: Any = import_module("kombu")

PATIENCE = 10.0
HELD = 5
MESSAGES = 20
DECISIONS: dict[str, Callable[[Message], object]] = {
    "ack": lambda message: message.ack(),
    "requeue": lambda message: message.requeue(),
    "reject": lambda message: message.reject(),
}


class Refusing:
    """Has the server refuse writes."""

    def __init__(self, node: RedisNode) -> None:
        self.node = node

    def begin(self) -> None:
        self.node.ask("CONFIG", "SET", "min-replicas-to-write", 1)

    def end(self) -> None:
        self.node.ask("CONFIG", "SET", "min-replicas-to-write", 0)


class Busy(Refusing):
    """Has it refuse everything: a script of somebody's runs on and on."""

    def begin(self) -> None:
        self.node.ask("CONFIG", "SET", "lua-time-limit", 50)
        self._script = threading.Thread(target=self._run)
        self._script.start()
        wait_until(self._is_busy, timeout=PATIENCE, waiting_for="the script")

    def _run(self) -> None:
        with redis.Redis(port=self.node.port) as client, suppress(redis.exceptions.ResponseError):
            client.eval("while true do end", 0)

    def _is_busy(self) -> bool:
        with redis.Redis(port=self.node.port) as client:
            try:
                client.get("x")
            except redis.exceptions.ResponseError as error:
                return "BUSY" in str(error)
            return False

    def end(self) -> None:
        with redis.Redis(port=self.node.port) as client:
            client.script_kill()
        self._script.join()
        self.node.ask("CONFIG", "SET", "lua-time-limit", 5000)


@pytest.fixture(params=[Refusing, Busy], ids=["no replicas", "busy"])
def harm(redis_server: RedisNode, request: pytest.FixtureRequest) -> Iterator[Refusing]:
    """Over by the end of the test."""
    yield request.param(redis_server)
    redis_server.ask("CONFIG", "SET", "min-replicas-to-write", 0)


@pytest.mark.parametrize("decision", DECISIONS)
def test_what_is_decided_while_the_server_refuses_writes_holds(
    decision: str, harm: Refusing, redis_server: RedisNode, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Acks, rejects and requeues are carried out when it takes writes again; the channel and its consumer live on,
    messages held meanwhile can be settled, and in the end nothing is left unsettled."""
    received: list[Any] = []
    held: list[Message] = []
    with Connection(redis_url) as connection:
        for number in range(MESSAGES):
            connection.Producer().publish(number, routing_key="q", declare=[Queue("q")])
        channel = connection.channel()

        def take(body: Any, message: Message) -> None:
            received.append(body)
            held.append(message)

        with connection.Consumer([Queue("q")], callbacks=[take], prefetch_count=HELD, channel=channel):
            while len(held) < HELD:
                connection.drain_events(timeout=PATIENCE)
            *decided, kept = held
            harm.begin()
            for message in decided:
                DECISIONS[decision](message)
            wait_until(lambda: "wait: " in caplog.text, timeout=PATIENCE, waiting_for="a refusal")
            harm.end()
            kept.ack()
            del held[:]
            while set(received) != set(range(MESSAGES)) or redis_server.ask("LLEN", "q"):
                connection.drain_events(timeout=PATIENCE)
                while held:
                    held.pop().ack()
    again = HELD - 1 if decision == "requeue" else 0
    assert sorted(received) == sorted([*range(MESSAGES), *range(again)])
    assert redis_server.ask("EXISTS", "q", "unacked", "unacked_index") == 0


def test_broadcasts_for_durable_queues_wait_until_the_server_takes_writes(
    redis_server: RedisNode, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What stock kombu broadcasts meanwhile comes afterwards, in order; a publish of ours, too."""
    harm = Refusing(redis_server)
    exchange = Exchange("news", "fanout")
    received: list[Any] = []
    with (
        Connection(redis_url, transport_options={"durable_fanout": True}) as connection,
        connection.Consumer([Queue("q", exchange)], callbacks=[lambda body, _: received.append(body)], no_ack=True),
        kombu.Connection(redis_url) as stock,
    ):
        producer = stock.Producer(exchange=kombu.Exchange("news", "fanout"))
        producer.publish(0)
        connection.drain_events(timeout=PATIENCE)
        harm.begin()
        for number in range(1, 30):
            producer.publish(number)
        wait_until(lambda: "wait: " in caplog.text, timeout=PATIENCE, waiting_for="a refusal")
        harm.end()
        while len(received) < 30:
            connection.drain_events(timeout=PATIENCE)
    assert received == list(range(30))


@pytest.mark.parametrize("how", ["close", "die"])
def test_a_channel_that_ends_while_the_server_refuses_writes_gives_back_what_it_held(
    how: str, redis_server: RedisNode, redis_url: str
) -> None:
    """As soon as it takes writes again; the connection lives on."""
    harm = Refusing(redis_server)
    with Connection(redis_url, transport_options={"call_timeout": 1.0}) as connection:
        for number in range(3):
            connection.Producer().publish(number, routing_key="q", declare=[Queue("q")])
        channel = connection.channel()
        assert Queue("q")(channel).get() is not None
        harm.begin()
        with suppress(Exception):
            channel.close() if how == "close" else channel.basic_ack(99)
        harm.end()
        wait_until(lambda: redis_server.ask("LLEN", "q") == 3, timeout=PATIENCE, waiting_for="the message")
