"""Connections that break: nothing is lost, nothing is told but what must be."""

from __future__ import annotations

import asyncio

import pytest

from kombu_actors.aio import Delivered, Subscription
from kombu_actors.errors import ConnectionLost, StaleDelivery
from tests.conformance.realms import Realm

from .running import connect, in_loop, queue, ready


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])
@in_loop
async def test_a_lost_session_costs_no_message_and_no_order(realm: Realm, harm: str) -> None:
    """Publishers wait it out, consumers are back; of each key the order holds, repetitions aside."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        seen: dict[int, list[int]] = {0: [], 1: []}
        started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()

        def parity(message: Delivered) -> int:
            return message.payload_as(int) % 2

        async def handle(message: Delivered) -> None:
            await asyncio.sleep(0.0005)
            number = message.payload_as(int)
            seen[number % 2].append(number)
            if {198, 199} <= {*seen[0], *seen[1]}:
                await started.result().stop()

        async with asyncio.TaskGroup() as group:
            group.create_task(broker.consume("q", handle, concurrency=4, key=parity, started=started))
            await started
            for number in range(200):
                if number in (50, 150):
                    await asyncio.to_thread(getattr(realm, harm))
                if number % 10:
                    await broker.publish(number, routing_key="q")
                else:
                    await broker.publish_many([number], routing_key="q")
        assert {first: list(dict.fromkeys(numbers)) for first, numbers in seen.items()} == {
            first: list(range(first, 200, 2)) for first in (0, 1)
        }


@in_loop
async def test_a_settlement_that_comes_too_late_says_so(realm: Realm) -> None:
    """The message comes again; a request whose session is lost is told at once."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await queue(broker, "silent")
        async with broker.subscribe("q") as messages:
            await broker.publish_many([1, 2], routing_key="q")
            first, second = await anext(messages), await anext(messages)
            asked = asyncio.create_task(broker.request(1, routing_key="silent"))
            while await ready(broker, "silent") < 1:
                """It is on its way."""
            await asyncio.to_thread(realm.cut_connections)
            with pytest.raises(ConnectionLost):
                await asked
            assert first.stale
            assert not first.ack()
            with pytest.raises(StaleDelivery):
                second.ack(strict=True)
            again = [await anext(messages), await anext(messages)]
            assert [message.payload for message in again] == [1, 2]
            assert all(message.ack() for message in again)


@in_loop
async def test_many_publishes_arrive_over_a_lost_session_in_order(realm: Realm) -> None:
    """Repetitions aside."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        done = asyncio.create_task(broker.publish_many(range(3000), routing_key="q"))
        while await ready(broker, "q") < 100:
            """They are on their way."""
        await asyncio.to_thread(realm.cut_connections)
        assert await done == 3000
        count = await ready(broker, "q")
        async with broker.subscribe("q", no_ack=True) as messages:
            got = [(await anext(messages)).payload for _ in range(count)]
        assert list(dict.fromkeys(got)) == list(range(3000))
