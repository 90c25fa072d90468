"""Leaving the blocks of the native API takes ``close_timeout`` at most, whatever the broker does (P6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec, open_broker
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import FaultProxy

GRACE = 0.5
BUSY = 0.6
"""Seconds more on a busy machine."""

Use = Callable[[Broker], Awaitable[None]]


async def wait(broker: Broker) -> None:
    await trio.sleep_forever()


async def consume(broker: Broker) -> None:
    async with broker.subscribe("q") as messages:
        async for message in messages:
            message.ack()


async def consume_much(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(consume, broker)


async def publish(broker: Broker) -> None:
    while True:
        await broker.publish(1, routing_key="q")


async def publish_much(broker: Broker) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(publish, broker)


@pytest.fixture(params=["amqp", "redis"])
def cut_off(
    request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy], rabbitmq: RabbitMQNode
) -> tuple[FaultProxy, str]:
    """A broker behind a proxy, and its URL through that."""
    if request.param == "redis":
        server: RedisNode = request.getfixturevalue("redis_server")
        server.flush()
        proxy = fault_proxy(server.port)
        return proxy, server.url(port=proxy.port)
    proxy = fault_proxy(rabbitmq.port)
    return proxy, rabbitmq.url(vhost=request.getfixturevalue("vhost"), port=proxy.port)


@pytest.mark.parametrize("use", [wait, consume, consume_much, publish, publish_much])
async def test_leaving_a_silent_broker_takes_one_grace(use: Use, cut_off: tuple[FaultProxy, str]) -> None:
    """All goodbyes together, also when the caller's own deadline ends the block."""
    proxy, url = cut_off
    with trio.CancelScope() as mine:
        async with open_broker(url, close_timeout=GRACE) as broker:
            await broker.declare(QueueSpec(name="q"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, broker)
                await trio.sleep(0.1)
                await trio.to_thread.run_sync(proxy.blackhole)
                mine.deadline = trio.current_time() + 0.2
                await trio.sleep_forever()
    assert mine.cancelled_caught
    assert trio.current_time() - mine.deadline < GRACE + BUSY


async def test_leaving_a_silent_subscription_takes_one_grace(cut_off: tuple[FaultProxy, str]) -> None:
    """The subscription alone, under a deadline of its own; then the connection has nothing left to wait for."""
    proxy, url = cut_off
    async with open_broker(url, close_timeout=GRACE) as broker:
        await broker.declare(QueueSpec(name="q"))
        with trio.CancelScope() as mine:
            async with broker.subscribe("q"):
                await trio.to_thread.run_sync(proxy.blackhole)
                mine.deadline = trio.current_time() + 0.2
                await trio.sleep_forever()
        assert trio.current_time() - mine.deadline < GRACE + BUSY
    assert trio.current_time() - mine.deadline < 2 * GRACE + BUSY


async def test_leaving_a_broker_that_answers_waits_for_its_goodbye(
    rabbitmq: RabbitMQNode, amqp_url: str, vhost: str
) -> None:
    """The grace is no pause: with an answer it is a matter of milliseconds."""
    async with open_broker(amqp_url) as broker:
        await broker.declare(QueueSpec(name="q"))
        began = trio.current_time()
    assert trio.current_time() - began < BUSY
    await trio.to_thread.run_sync(rabbitmq.wait_until_no_connections, vhost)
