"""Messages that wait for the same time keep their order, whoever lets them expire."""

from __future__ import annotations

from collections import defaultdict

import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.fleet._delays import delay_of
from tests.conformance.realms import Realm

from .support import PATIENCE

QUEUES, MESSAGES, ROUNDS = 8, 4, 6


async def test_what_waits_in_one_delay_comes_back_in_order(realm: Realm, broker: Broker) -> None:
    """Also where several connections look after what expires, as every client of a Redis does."""
    delay = delay_of(0.2)
    await broker.declare(delay.exchange, delay.queue, delay.binding)
    names = [f"queue-{number}" for number in range(QUEUES)]
    await broker.declare(*(QueueSpec(name=name) for name in names))
    got, complete = defaultdict[str, list[object]](list), trio.Event()

    async def consume(other: Broker, name: str) -> None:
        async with other.subscribe(name, prefetch=2) as messages:
            async for message in messages:
                message.ack()
                got[name].append(message.payload)
                if sum(map(len, got.values())) == QUEUES * MESSAGES * ROUNDS:
                    complete.set()

    async def publish(name: str) -> None:
        for number in range(MESSAGES * ROUNDS):
            await broker.publish(number, exchange=delay.name, routing_key=name, mandatory=True)
            if number % MESSAGES == 0:
                await trio.sleep(0.05)

    async with realm.open_broker() as other, trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(consume, other, name)
        async with trio.open_nursery() as publishing:
            for name in names:
                publishing.start_soon(publish, name)
        with trio.fail_after(PATIENCE):
            await complete.wait()
        nursery.cancel_scope.cancel()
    assert {name: numbers for name, numbers in got.items() if numbers != list(range(MESSAGES * ROUNDS))} == {}
