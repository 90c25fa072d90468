"""Broadcast subscribers that are slow: bounded in messages and bytes, the newest kept, and the loss told."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
import redis
import trio

from kombu_actors.broker import (
    BindingKind,
    BindingSpec,
    Broker,
    ExchangeSpec,
    QueueSpec,
    SubscriptionGap,
    open_broker,
)
from kombu_actors.protocols.redis.envelope import encode
from kombu_actors.transport.redis import backlog
from tests.support.brokers import RedisNode
from tests.support.processes import wait_until

PATIENCE = 10.0
MB = 1024 * 1024


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report at once: the second between two reports is not what is tested here."""
    monkeypatch.setattr(backlog, "TELL_EVERY", 0.0)


async def bound_queue(broker: Broker) -> None:
    await broker.declare(
        ExchangeSpec(name="news", type="fanout"),
        QueueSpec(name="slow"),
        BindingSpec(kind=BindingKind.QUEUE, source="news", destination="slow"),
    )


@pytest.mark.parametrize(
    ("bound", "limit", "size", "kept"),
    [("BACKLOG_MESSAGES", 20, 10, 20), ("BACKLOG_BYTES", 2 * MB, MB // 2, 2)],
    ids=["messages", "bytes"],
)
async def test_a_slow_subscriber_keeps_the_newest_and_is_told_of_the_rest(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, bound: str, limit: int, size: int, kept: int
) -> None:
    """One that holds one message while 50 are broadcast gets the newest of them; how many were dropped, and when they
    came, is in the ``SubscriptionGap`` events, and what was not dropped comes in order."""
    monkeypatch.setattr(backlog, bound, limit)
    dropped: list[SubscriptionGap] = []
    told = trio.Event()
    async with open_broker(redis_url) as broker, open_broker(redis_url) as publisher, broker.events(1000) as events:
        await bound_queue(broker)
        async with broker.subscribe("slow", prefetch=1) as messages, trio.open_nursery() as nursery:

            async def note_gaps() -> None:
                async for event in events:
                    if isinstance(event, SubscriptionGap):
                        dropped.append(event)
                        if sum(gap.dropped for gap in dropped) >= 50 - kept:
                            told.set()

            nursery.start_soon(note_gaps)
            began = time.time()
            for number in range(51):
                await publisher.publish({"number": number, "d": "x" * size}, exchange="news", routing_key="")
            with trio.fail_after(PATIENCE):
                held = await anext(messages)
                assert held.payload_as(dict)["number"] == 0
                await told.wait()
                got: list[int] = []
                held.ack()
                while not got or got[-1] != 50:
                    message = await anext(messages)
                    message.ack()
                    got.append(message.payload_as(dict)["number"])
            nursery.cancel_scope.cancel()
    assert got == list(range(51 - kept, 51))
    assert sum(gap.dropped for gap in dropped) == 50 - kept
    assert all(gap.queue == "slow" and began <= gap.since <= gap.until <= time.time() for gap in dropped)


def unread(node: RedisNode) -> int:
    """Bytes that the server holds for its subscribers."""
    clients: bytes = node.ask("CLIENT", "LIST", "TYPE", "pubsub")
    return sum(int(size) for size in re.findall(rb" omem=(\d+)", clients))


@pytest.mark.parametrize("how", ["ack", "no_ack"])
def test_a_slow_subscriber_costs_a_bounded_amount_of_memory(redis_server: RedisNode, redis_url: str, how: str) -> None:
    """130 MB are broadcast while it does nothing: its process grows by its inbox and its backlog, the server's buffer
    for it empties, its session lives, and it hears the last of them."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.acceptance.slow_subscriber"]
    with (
        subprocess.Popen([*command, redis_url, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow,
        redis.Redis(port=redis_server.port) as publisher,
    ):
        assert slow.stdout is not None
        assert slow.stdin is not None
        assert slow.stdout.readline() == "ready\n"
        for number in range(1001):
            body = (b"last" if number == 1000 else b"some") + b"x" * 100_000
            publisher.publish("/0.news", encode(body, {}, "news", "", str(number)))
            if number % 100 == 0:  # the server drops a subscriber that is 32 MB behind
                wait_until(lambda: not unread(redis_server), timeout=PATIENCE, waiting_for="all to be read")
        slow.stdin.write("\n")
        slow.stdin.flush()
        grown, sessions = map(int, slow.stdout.readline().split())
        heard = int(slow.stdout.readline())
    assert grown < 75 * MB, f"{grown / MB:.0f} MB"
    assert sessions == 1
    assert 300 < heard < 700
