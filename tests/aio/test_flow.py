"""What passes between the loop and the runtime passes in batches, and neither holds more than it may."""

from __future__ import annotations

import asyncio

from kombu_actors.aio import Broker
from tests.conformance.realms import Realm

from .running import connect, in_loop, payloads, queue, ready

MANY = 2000
CHUNK = 1000
"""Messages that a transport hands over at once, at most: what memory:// does."""


def count_rings(broker: Broker) -> dict[str, int]:
    """Counts how often the loop and the runtime are woken from now on."""
    rings = {"loop": 0, "runtime": 0}

    def counting(direction: str, bundle: object) -> None:
        ring = vars(bundle)["_ring"]

        def count(carry_out: object) -> None:
            rings[direction] += 1
            ring(carry_out)

        vars(bundle)["_ring"] = count

    counting("loop", broker._handle.to_loop)
    counting("runtime", broker._handle.to_runtime)
    return rings


@in_loop
async def test_deliveries_and_acks_pass_in_batches(realm: Realm) -> None:
    """Many times fewer wake-ups than messages, of the loop and of the runtime."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish_many(range(MANY), routing_key="q")
        rings = count_rings(broker)
        async with broker.subscribe("q", prefetch=200) as messages:
            assert await payloads(messages, MANY) == list(range(MANY))
        assert rings["loop"] < MANY / 4
        assert rings["runtime"] < MANY / 4
        assert await ready(broker, "q") == 0


@in_loop
async def test_publishes_and_their_confirms_pass_in_batches(realm: Realm) -> None:
    """Those of tasks that publish at the same time."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish(0, routing_key="q")
        rings = count_rings(broker)

        async def publish() -> None:
            for number in range(MANY // 100):
                await broker.publish(number, routing_key="q")

        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(publish())
        assert rings["loop"] < MANY / 4
        assert rings["runtime"] < MANY / 4


@in_loop
async def test_reading_pauses_while_the_loop_is_behind(realm: Realm) -> None:
    """Without a prefetch, too: ``buffer_max`` bounds what waits for it, and all come in the end."""
    body, limit = b"x" * 10_000, 1_000_000
    async with connect(realm, buffer_max=limit) as broker, connect(realm) as publisher:
        await queue(publisher, "q")
        await publisher.publish_many((body for _ in range(1500)), routing_key="q")
        async with broker.subscribe("q", no_ack=True) as messages:
            most = 0
            while messages.buffered * len(body) < limit // 2:
                await ready(publisher, "q")
            for _ in range(20):
                await ready(publisher, "q")  # meanwhile the rest could come
                most = max(most, messages.buffered)
            for number in range(1500):
                assert (await anext(messages)).body == body, number
                most = max(most, messages.buffered)
        assert most <= limit // len(body) + CHUNK


@in_loop
async def test_the_prefetch_bounds_what_waits_for_a_busy_loop(realm: Realm) -> None:
    """Messages that nobody has acked hold up the broker, not the loop's memory."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish_many(range(100), routing_key="q")
        async with broker.subscribe("q", prefetch=10) as messages:
            first = await anext(messages)
            while await ready(broker, "q") > 90:
                """The broker is about to send ten."""
            assert messages.buffered <= 9
            first.ack()
            assert await payloads(messages, 99) == list(range(1, 100))


@in_loop
async def test_a_handler_that_never_waits_lets_others_run(realm: Realm) -> None:
    """While messages are at hand the loop goes round now and then."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish_many(range(500), routing_key="q")
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(turn())
        async with broker.subscribe("q", prefetch=500) as messages:
            while messages.buffered < 500:
                await ready(broker, "q")
            before = turns
            await payloads(messages, 500)
            assert turns - before >= 500 // 32
        other.cancel()
