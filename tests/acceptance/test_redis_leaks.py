"""P8 over Redis: no task, thread, descriptor, connection, lease or key outlives its scope."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.broker import Broker, QueueSpec, open_broker
from kombu_actors.message import Message
from kombu_actors.supervisors import Backoff
from kombu_actors.supervisors.events import ChildReady
from tests.support.brokers import RedisNode
from tests.support.leaks import Holdings, no_leaks
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

RECONNECTS = 100
QUICK = Backoff(first=0.0, base=0.01, maximum=0.05)
"""The default slows down a connection that flaps a hundred times, as it should."""


def keys(node: RedisNode) -> set[bytes]:
    """What there is, but for what ends by itself within seconds; owners' names, which are random, left out."""
    found = {key for key in node.ask("KEYS", "*") if node.ask("PTTL", key) == -1}
    return {key if key.count(b".") < 2 or len(key.rsplit(b".", 1)[1]) != 32 else key[:-32] for key in found}


async def test_a_hundred_reconnects_leave_tasks_descriptors_connections_and_keys_as_they_were(
    redis_server: RedisNode, redis_url: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """After 100 sessions: trio tasks, threads, descriptors, CLIENT LIST, leases and keys equal the start."""
    proxy = fault_proxy(redis_server.port)
    url = redis_server.url(port=proxy.port)
    async with open_broker(url, backoff=QUICK) as broker:
        await broker.declare(QueueSpec(name="kept"))
        async with broker.subscribe("kept") as messages:

            async def round_trip(number: int) -> None:
                await broker.publish({"n": number}, routing_key="kept")
                with trio.fail_after(10):
                    while True:
                        message = await anext(messages)
                        message.ack()
                        if message.payload_as(dict)["n"] == number:
                            return

            def stock() -> dict[str, Any]:
                gc.collect()
                holdings = Holdings.now()
                threads = [name for _, name in holdings.threads if "FaultProxy" not in name and "Trio" not in name]
                files = [target for _, target in holdings.descriptors if not target.startswith("socket:")]
                return {
                    "tasks": trio.lowlevel.current_statistics().tasks_living,
                    "threads": len(threads),
                    "files": len(files),
                    "clients": sorted(row["name"] for row in redis_server.clients()),
                    "leases": redis_server.ask("ZCARD", "_kombu_actors.owners"),
                    "consumers": redis_server.ask("HLEN", "_kombu_actors.consumers.kept"),
                    "keys": keys(redis_server),
                }

            async def settled_stock() -> dict[str, Any]:
                """With nothing unacknowledged: closing and opening a channel takes that along."""
                nothing_unacked = partial(
                    wait_until, lambda: not redis_server.ask("HLEN", "unacked"), timeout=5, waiting_for="the last ack"
                )
                await trio.to_thread.run_sync(nothing_unacked)
                return stock()

            await round_trip(-1)
            before = await settled_stock()
            for number in range(RECONNECTS):
                epoch = _session_epoch(broker)
                async with broker.events() as events:
                    proxy.reset()
                    async for event in events:
                        if event.path == "channels" and isinstance(event, ChildReady):
                            break
                assert _session_epoch(broker) > epoch
                await round_trip(number)
            assert await settled_stock() == before
            assert before["clients"] == ["kombu_actors:listener", "kombu_actors:main"]
            assert (before["leases"], before["consumers"]) == (1, 1)


def _session_epoch(broker: Broker) -> int:
    session: int = next(child.epoch for child in broker.snapshot().children if child.id == "session")
    return session


def test_a_hundred_connections_one_after_the_other_leave_nothing(redis_server: RedisNode, redis_url: str) -> None:
    """Each `with Connection(...)` takes its thread, its descriptors, its two clients and its lease with it; in the end
    Redis holds the one queue's declaration, and when somebody last looked after the others."""
    queue = Queue("passing")
    seen: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        seen.append(body)
        message.ack()

    with no_leaks():
        for number in range(100):
            with Connection(redis_url) as connection:
                Producer(connection).publish({"n": number}, routing_key="passing", declare=[queue])
                with Consumer(connection, [queue], callbacks=[handle]):
                    connection.drain_events(timeout=10)
    assert seen == [{"n": number} for number in range(100)]
    redis_server.wait_until_no_clients()
    assert keys(redis_server) == {b"_kombu_actors.queues", b"_kombu_actors.beaten", b"_kombu_actors.watch"}


def test_a_connection_that_was_only_forgotten_is_closed(redis_server: RedisNode, redis_url: str) -> None:
    """Garbage collection ends the tree of a connection that nobody released, after its publishes went out."""
    with no_leaks(grace=10):
        connection = Connection(redis_url)
        Producer(connection).publish("goodbye", routing_key="last", declare=[Queue("last")])
        del connection
        gc.collect()
        redis_server.wait_until_no_clients()
    assert redis_server.ask("LLEN", "last") == 1
    assert redis_server.ask("ZCARD", "_kombu_actors.owners") == 0
