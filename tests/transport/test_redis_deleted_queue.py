"""A consumer hears that its queue was deleted, at whatever moment of its subscription that happens."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from kombu_actors._values.model import ConsumerSpec
from kombu_actors.broker import BindingKind, BindingSpec, ExchangeSpec, QueueSpec, open_broker
from kombu_actors.transport.redis.link import RedisLink

PATIENCE = 10.0


@pytest.mark.parametrize("bound", [True, False], ids=["fanout", "plain"])
async def test_a_queue_that_is_deleted_while_it_is_subscribed_to_cancels_its_consumer(
    redis_url: str, bound: bool
) -> None:
    """The server tells of the deletion over another connection than it grants the subscription: it may come first,
    or while Pub/Sub is asked for what the queue is bound to."""
    async with open_broker(redis_url) as broker:
        link = broker._actor.session.require_link()
        assert isinstance(link, RedisLink)
        await link.listening.wait_there()  # else the first of them is subscribed long after its queue's end
        consuming, deleting = await link.open_channel(), await link.open_channel()
        await broker.declare(ExchangeSpec(name="x", type="fanout"))
        for _ in range(10):
            await broker.declare(QueueSpec(name="q"))
            if bound:
                await broker.declare(BindingSpec(kind=BindingKind.QUEUE, source="x", destination="q"))
            cancelled = trio.Event()
            spec = ConsumerSpec(tag="t", queue="q", no_ack=True)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(consuming.consume, spec, lambda batch: None, cancelled.set))
                    await trio.lowlevel.checkpoint()
                    nursery.start_soon(deleting.queue_delete, "q")
                await cancelled.wait()
            await broker.delete_queue("q")
