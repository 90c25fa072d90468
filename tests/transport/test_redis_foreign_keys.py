"""A key of a queue's name that is no list: told to whoever asks, at nobody else's cost."""

from __future__ import annotations

import pytest
import trio
from amqp.exceptions import AccessRefused, PreconditionFailed

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import PublishRefused
from tests.support.brokers import RedisNode

PATIENCE = 10.0


async def test_what_is_no_queue_harms_no_other(redis_server: RedisNode, redis_url: str) -> None:
    """Publishing to it, declaring it and consuming from it are refused; the neighbours' messages go on."""
    redis_server.ask("SET", "bad", "somebody else's")
    async with open_broker(redis_url) as broker:
        await broker.declare(QueueSpec(name="good"))
        with pytest.raises(PublishRefused, match="'bad'"):
            await broker.publish("m", routing_key="bad")
        with pytest.raises(PreconditionFailed, match="WRONGTYPE"):
            await broker.declare(QueueSpec(name="bad"))
        async with broker.subscribe("good") as messages:
            await broker.publish("m", routing_key="good")
            with trio.fail_after(PATIENCE):
                message = await anext(messages)
            message.ack()
    assert redis_server.ask("GET", "bad") == b"somebody else's"


async def test_a_publish_that_cant_be_stored_keeps_no_other_from_it(redis_server: RedisNode, redis_url: str) -> None:
    """Not even those that left in the same batch."""
    redis_server.ask("SET", "bad", "somebody else's")
    refused: list[int] = []
    async with open_broker(redis_url) as broker:
        await broker.declare(QueueSpec(name="good"))

        async def publish(number: int) -> None:
            try:
                await broker.publish(number, routing_key="good" if number % 3 else "bad")
            except PublishRefused:
                refused.append(number)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(12):
                    nursery.start_soon(publish, number)
        assert (await broker.inspect_queue("good")).messages == 8
    assert sorted(refused) == [0, 3, 6, 9]


@pytest.mark.parametrize("key", ["unacked", "unacked_index"])
async def test_where_claims_are_recorded_is_tried_before_there_is_one(
    redis_server: RedisNode, redis_url: str, key: str
) -> None:
    """A message that can't be recorded would be lost: the connection is refused instead."""
    redis_server.ask("SET", key, "somebody else's")
    with pytest.raises(PreconditionFailed, match="WRONGTYPE"):
        async with open_broker(redis_url):
            raise AssertionError("connected")


async def test_a_permission_that_claims_need_is_asked_for_before_there_is_one(
    redis_server: RedisNode, redis_url: str
) -> None:
    """Of a user who may read the queues and not write what is unacknowledged."""
    redis_server.ask("ACL", "SETUSER", "reader", "on", ">secret", "~queue*", "&*", "+@all")
    url = redis_url.replace("redis://", "redis://reader:secret@")
    try:
        with pytest.raises(AccessRefused) as refused:
            async with open_broker(url):
                raise AssertionError("connected")
        assert "secret" not in str(refused.value)
    finally:
        redis_server.ask("ACL", "DELUSER", "reader")
