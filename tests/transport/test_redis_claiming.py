"""Who waits and has no room makes way: a message never lies in front of one that can't take it."""

from __future__ import annotations

import trio

from kombu_actors.broker import QueueSpec, open_broker

PATIENCE = 10.0


async def test_a_paused_link_leaves_its_place_to_others(redis_url: str) -> None:
    """Three consumers wait, on links of their own; whoever is paused is passed over, also when it was the sentry."""
    async with (
        open_broker(redis_url) as one,
        open_broker(redis_url) as two,
        open_broker(redis_url) as three,
    ):
        await one.declare(QueueSpec(name="q"))
        async with one.subscribe("q"), two.subscribe("q"), three.subscribe("q") as messages:
            for paused in (one, two):
                paused._actor.pause_reading()
                await paused.inspect_queue("q")  # after it the server knows
            for number in range(5):
                await one.publish(number, routing_key="q")
                with trio.fail_after(PATIENCE):
                    message = await anext(messages)
                assert message.payload == number
                message.ack()


async def test_a_paused_link_goes_on_where_it_stopped(redis_url: str) -> None:
    """What came meanwhile is claimed when reading is resumed."""
    async with open_broker(redis_url) as broker:
        await broker.declare(QueueSpec(name="q"))
        async with broker.subscribe("q") as messages:
            broker._actor.pause_reading()
            for number in range(3):
                await broker.publish(number, routing_key="q")
            assert (await broker.inspect_queue("q")).messages == 3
            broker._actor.resume_reading()
            with trio.fail_after(PATIENCE):
                assert [(await anext(messages)).payload for _ in range(3)] == [0, 1, 2]
