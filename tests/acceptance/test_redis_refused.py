"""A publish that Redis can't ever store is refused, alone and told; the others go on, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from amqp.exceptions import MessageNacked, PreconditionFailed

from kombu_actors import Connection, Consumer, Queue
from kombu_actors._values.model import RefusedPublish
from kombu_actors.message import Message
from kombu_actors.transport.redis import publishing
from tests.support.brokers import RedisNode
from tests.support.processes import wait_until

MB = 1024 * 1024
ROOM = 8 * MB
"""What a server with little memory has left: some of it is for our scripts and connections, up to 4 MB in Redis 8."""
GOOD = 50
PROMPT = 1.0
"""Seconds within which the others are there."""


@attrs.frozen
class Case:
    """A limit of a server, and what goes beyond it."""

    url: str
    body: bytes
    key: str
    error: type[Exception]
    says: str
    retry: bool = False
    """It costs a session, and the others wait for the next one."""


def large(url: str, says: str, size: int = 3 * MB) -> Case:
    return Case(url, b"x" * size, "q", PreconditionFailed, says)


@contextmanager
def piece_limited(node: RedisNode) -> Iterator[Case]:
    """``proto-max-bulk-len``, as the server tells."""
    node.ask("CONFIG", "SET", "proto-max-bulk-len", 2 * MB)
    yield large(node.url(), f"proto-max-bulk-len is {2 * MB}")
    node.ask("CONFIG", "SET", "proto-max-bulk-len", 512 * MB)


@contextmanager
def secretly_limited(node: RedisNode) -> Iterator[Case]:
    """The same, of a server that says nothing of itself: it hangs up."""
    node.ask("ACL", "SETUSER", "blind", "on", ">blind", "~*", "&*", "+@all", "-config", "-info")
    with piece_limited(node) as case:
        url = f"redis://blind:blind@127.0.0.1:{node.port}"
        yield attrs.evolve(case, url=url, says="larger than the server's", retry=True)
    node.wait_until_no_clients()
    node.ask("ACL", "DELUSER", "blind")


@contextmanager
def memory_limited(node: RedisNode) -> Iterator[Case]:
    """``maxmemory``: less than the message alone."""
    used = int(node.ask("INFO", "memory").split(b"used_memory_startup:")[1].split(b"\r")[0])
    node.ask("CONFIG", "SET", "maxmemory", used + ROOM)
    yield large(node.url(), f"maxmemory leaves {ROOM} bytes", ROOM)
    node.ask("CONFIG", "SET", "maxmemory", 0)


@contextmanager
def crowded(node: RedisNode) -> Iterator[Case]:
    """``maxmemory`` would do for it, but others keep most of it; small messages still fit."""
    node.ask("SET", "ballast", b"x" * (2 * ROOM))
    used = int(node.ask("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0])
    node.ask("CONFIG", "SET", "maxmemory", used + ROOM)
    yield large(node.url(), "2 times there was no room for it", ROOM)
    node.ask("CONFIG", "SET", "maxmemory", 0)


@contextmanager
def foreign_key(node: RedisNode) -> Iterator[Case]:
    """Something else under the queue's name."""
    node.ask("SET", "bad", "somebody else's")
    yield Case(node.url(), b"x", "bad", MessageNacked, "WRONGTYPE")


@contextmanager
def forbidden(node: RedisNode) -> Iterator[Case]:
    """A queue that this user may not write to."""
    node.ask("ACL", "SETUSER", "some", "on", ">some", "~*", "&*", "+@all")
    node.ask("ACL", "SETUSER", "some", "resetkeys", "~q*", "~_kombu*", "~unacked*", "~/0*")
    yield Case(f"redis://some:some@127.0.0.1:{node.port}", b"x", "bad", MessageNacked, "NOPERM|key")
    node.wait_until_no_clients()
    node.ask("ACL", "DELUSER", "some")


CASES = [piece_limited, secretly_limited, memory_limited, crowded, foreign_key, forbidden]


@pytest.fixture(params=CASES, ids=[case.__name__ for case in CASES])
def case(
    own_redis: Callable[..., RedisNode], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Case]:
    """Each, on a server of its own: what the run's server has left of its memory is anybody's guess."""
    monkeypatch.setattr(publishing, "CROWDED_OUT_MAX", 2)
    with request.param(own_redis()) as case:
        yield case


def test_who_waits_is_told_and_the_next_is_confirmed(case: Case) -> None:
    """With ``confirm_publish``: the server's reason, for that message."""
    with Connection(case.url, transport_options={"confirm_publish": True}) as connection:
        producer = connection.Producer()
        for number in range(2):
            with pytest.raises(case.error, match=case.says):
                producer.publish(case.body, routing_key=case.key, content_type="application/data")
            producer.publish(number, routing_key="q", retry=case.retry)


def test_the_others_go_on_in_order_and_the_channel_tells(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits: an ERROR, the hook, and the exception from the channel's next call; 50 good ones behind it arrive
    in order, the channel's own consumer hears them, and nobody else is held up."""
    received: list[Any] = []
    told: list[RefusedPublish] = []
    with Connection(case.url, transport_options={"on_refused": told.append}) as connection:
        channel, bystander = connection.channel(), connection.channel()

        def collect(body: Any, message: Message) -> None:
            received.append(body)
            message.ack()

        with Consumer(channel, [Queue("q")], callbacks=[collect]):
            producer = connection.Producer(channel=channel)
            producer.publish("first", routing_key="q")
            producer.publish(case.body, routing_key=case.key, content_type="application/data")
            began = time.monotonic()
            raised: list[BaseException] = []
            for number in range(GOOD):
                try:
                    producer.publish(number, routing_key="q", retry=case.retry)
                except Exception as error:
                    raised.append(error)
                    producer.publish(number, routing_key="q", retry=case.retry)
            connection.Producer(channel=bystander).publish("other", routing_key="q", retry=case.retry)
            while len(set(received)) < GOOD + 2:
                connection.drain_events(timeout=10)
            took = time.monotonic() - began
            wait_until(lambda: told, timeout=5, waiting_for="the hook")
            if not raised:
                with pytest.raises(case.error, match="told late") as late:
                    channel.queue_declare("q", passive=True)
                raised.append(late.value)
    received.remove("other")
    assert list(dict.fromkeys(received)) == ["first", *range(GOOD)]
    assert [type(error) for error in raised] == [type(told[0].error)]
    assert issubclass(type(told[0].error), case.error)
    assert told[0].routing_key == case.key
    assert any(record.levelname == "ERROR" and case.key in record.getMessage() for record in caplog.records)
    assert took < PROMPT or case.says.startswith("2 times"), took
