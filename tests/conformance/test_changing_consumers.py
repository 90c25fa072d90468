"""Consumers of one channel come and go at the same time: whoever is subscribed is served (P3)."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import trio

from kombu_actors._values.model import ConsumerSpec, Delivery
from kombu_actors.actors.channel import Epoch
from kombu_actors.actors.consumer import DesiredConsumer
from kombu_actors.broker import Broker

from .native import PATIENCE, fill, queue

ROUNDS = 30


async def test_a_consumer_that_comes_while_the_last_one_of_its_queue_goes_is_served(broker: Broker) -> None:
    """On the same channel, with messages under way to the one that goes."""
    await queue(broker, "q")
    actor = broker._actor
    channel = await actor.open_channel()
    came = trio.Event()

    def take(epoch: Epoch, batch: list[Delivery]) -> None:
        for delivery in batch:
            epoch.wire.ack(delivery.delivery_tag)
            if delivery.body == b"last":
                came.set()

    consumers = [
        DesiredConsumer(ConsumerSpec(tag=f"c{number}", queue="q"), partial(partial, take)) for number in range(ROUNDS)
    ]
    await actor.consumers.add(channel, consumers[0])
    for old, new in pairwise(consumers):
        came = trio.Event()
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fill, broker, "q", b"some", b"some", b"some")
                nursery.start_soon(actor.consumers.remove, channel, old.spec.tag)
                nursery.start_soon(actor.consumers.add, channel, new)
            await fill(broker, "q", b"last")
            await came.wait()
    await actor.close_channel(channel)
