"""Streams of RabbitMQ: read from a place, again and again, and over faults without a gap."""

from __future__ import annotations

import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec, StreamOffset, open_broker
from kombu_actors.errors import PreconditionFailed
from tests.support.brokers import RabbitMQNode

PATIENCE = 10.0


async def read(broker: Broker, offset: StreamOffset, count: int) -> list[object]:
    """So many payloads from a place on."""
    with trio.fail_after(PATIENCE):
        async with broker.subscribe("log", offset=offset) as messages:
            got: list[object] = []
            async for message in messages:
                got.append(message.payload)
                message.ack()
                if len(got) == count:
                    break
    return got


async def test_a_stream_is_read_from_a_place_as_often_as_one_likes(amqp_url: str) -> None:
    """Reading takes nothing out of it."""
    async with open_broker(amqp_url) as broker:
        await broker.declare(QueueSpec(name="log", type="stream", max_age=3600))
        await broker.publish_many(range(10), routing_key="log")
        assert await read(broker, "first", 10) == list(range(10))
        assert await read(broker, "first", 3) == [0, 1, 2]
        assert await read(broker, 7, 3) == [7, 8, 9]
        async with broker.subscribe("log", offset="next") as messages:
            await broker.publish("new", routing_key="log")
            with trio.fail_after(PATIENCE):
                assert (await anext(messages)).payload == "new"


async def test_after_a_fault_it_goes_on_where_it_was(amqp_url: str, vhost: str, rabbitmq: RabbitMQNode) -> None:
    """At the first message that was not settled: not from the beginning again, and without a gap."""
    async with open_broker(amqp_url) as broker:
        await broker.declare(QueueSpec(name="log", type="stream"))
        await broker.publish_many(range(50), routing_key="log")
        got: list[int] = []
        with trio.fail_after(3 * PATIENCE):
            async with broker.subscribe("log", offset="first", prefetch=10) as messages:
                async for message in messages:
                    got.append(message.payload_as(int))
                    if got[-1] == 20 and got.count(20) == 1:
                        await trio.to_thread.run_sync(lambda: rabbitmq.close_all_connections(vhost=vhost))
                    message.ack()
                    if got[-1] == 49:
                        break
        assert list(dict.fromkeys(got)) == list(range(50))
        assert min(got[got.index(20) + 1 :]) >= 20 - 10


async def test_what_is_published_while_nobody_is_connected_is_read_after_the_fault(
    amqp_url: str, vhost: str, rabbitmq: RabbitMQNode
) -> None:
    """Also by a reader of what is new."""
    async with open_broker(amqp_url) as broker, open_broker(amqp_url) as other:
        await broker.declare(QueueSpec(name="log", type="stream"))
        async with broker.subscribe("log", offset="next") as messages:
            await other.publish(0, routing_key="log")
            with trio.fail_after(2 * PATIENCE):
                first = await anext(messages)
                first.ack()
                await trio.to_thread.run_sync(lambda: rabbitmq.close_all_connections(vhost=vhost))
                await other.publish_many(range(1, 5), routing_key="log")
                assert [(await anext(messages)).payload for _ in range(4)] == [1, 2, 3, 4]


async def test_a_broker_without_streams_says_so() -> None:
    """Nobody believes to have a log that is a queue."""
    async with open_broker("memory://streams") as broker:
        with pytest.raises(PreconditionFailed):
            await broker.declare(QueueSpec(name="log", type="stream"))
