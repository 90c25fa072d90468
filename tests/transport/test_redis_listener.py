"""The connection over which a link hears what the server says unasked: dialled when something is consumed."""

from __future__ import annotations

from collections.abc import Callable

import trio
import trio.testing

from kombu_actors._values.model import ConsumerSpec
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.supervisors import Backoff
from kombu_actors.supervisors.events import ChildFailed
from tests.support.brokers import RedisNode
from tests.support.proxy import FaultProxy

PATIENCE = 10.0
QUICK = Backoff(first=0.0, base=0.01, maximum=0.05)


def connected(server: RedisNode) -> list[str]:
    """The names of those who are connected."""
    return sorted(row["name"] for row in server.clients())


async def test_who_only_publishes_has_one_connection_and_who_consumes_has_two(
    redis_server: RedisNode, redis_url: str
) -> None:
    """The second one is there with the first consumer, and stays."""
    async with open_broker(redis_url) as broker:
        await broker.declare(QueueSpec(name="q"))
        await broker.publish("m", routing_key="q")
        assert connected(redis_server) == ["kombu_actors:main"]
        for _ in range(2):
            async with broker.subscribe("q"):
                assert connected(redis_server) == ["kombu_actors:listener", "kombu_actors:main"]


async def test_a_consumer_whose_connection_is_refused_consumes_when_it_can_be_had(
    redis_server: RedisNode, redis_url: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """That is the session's failure: it is dialled anew, as after any other."""
    proxy = fault_proxy(redis_server.port)
    got: list[object] = []

    async with open_broker(redis_server.url(port=proxy.port), backoff=QUICK) as broker, trio.open_nursery() as nursery:
        await broker.declare(QueueSpec(name="q"))
        await broker.publish("m", routing_key="q")

        async def consume() -> None:
            async with broker.subscribe("q") as messages:
                message = await anext(messages)
                message.ack()
                got.append(message.payload)

        with trio.fail_after(PATIENCE):
            async with broker.events() as events:
                proxy.refuse()
                nursery.start_soon(consume)
                async for event in events:
                    if isinstance(event, ChildFailed) and event.path == "session":
                        break
            assert not got
            proxy.heal()
            while not got:
                await trio.testing.wait_all_tasks_blocked(0.01)
    assert got == ["m"]


async def test_a_link_that_ends_while_its_listener_is_dialled_waits_for_nobody(
    redis_server: RedisNode, redis_url: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Nor does it leave a connection behind."""
    proxy = fault_proxy(redis_server.port)
    with trio.fail_after(PATIENCE):
        async with open_broker(redis_server.url(port=proxy.port), connect_timeout=600) as broker:
            await broker.declare(QueueSpec(name="q"))
            link = broker._actor.session.require_link()
            channel = await link.open_channel()
            proxy.hang()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.consume, ConsumerSpec(tag="t", queue="q"), print, print)
                await trio.to_thread.run_sync(proxy.wait_accepted, 2)
                nursery.cancel_scope.cancel()
    proxy.heal()
    await trio.to_thread.run_sync(proxy.wait_closed)
