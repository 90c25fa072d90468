"""A channel and its publisher begin again together: the broker counts publishes for as long as the channel lives."""

from __future__ import annotations

import pytest
import trio

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import PublishReturned
from tests.support.brokers import RabbitMQNode


async def test_a_channel_that_starts_again_is_a_new_one_where_the_broker_counts_publishes_from_one(
    rabbitmq: RabbitMQNode, vhost: str
) -> None:
    """Every publish after it hears its own outcome, and the session goes on."""
    async with open_broker(rabbitmq.url(vhost=vhost)) as broker:
        await broker.declare(QueueSpec(name="fate"))
        for number in range(3):
            await broker.publish(number, routing_key="fate")
        (channel,) = broker._actor.channels.values()
        before = channel.live
        subtree = broker._actor.supervisor.nested("channels/1")
        assert subtree is not None
        assert before is not None
        await subtree.restart_child("channel", reason="the test wants it")
        with trio.fail_after(10):
            await before.wire.wait_closed()
            for number in range(3):
                await broker.publish(number, routing_key="fate")
                with pytest.raises(PublishReturned):
                    await broker.publish(number, routing_key="nowhere", mandatory=True)
        assert channel.live is not None
        assert channel.live is not before
        assert broker._actor.session.epochs == 1
        assert (await broker.inspect_queue("fate")).messages == 6
