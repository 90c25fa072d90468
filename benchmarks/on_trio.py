"""``open_broker``: kombu_actors without the facade, inside a trio program."""

from __future__ import annotations

from typing import Any

import trio

from kombu_actors.broker import open_broker

from .cases import CONCURRENCY, PREFETCH, Task
from .meter import BODY, Meter, Sample


def publish(_: Any, task: Task) -> Sample:
    """Tasks that await ``Broker.publish`` in a loop."""
    return trio.run(_publish, task)


def consume(_: Any, task: Task) -> Sample:
    """``async for`` over a subscription; each message is decoded and acknowledged."""
    return trio.run(_consume, task)


async def _publish(task: Task) -> Sample:
    async with open_broker(task.url) as broker:

        async def publisher(count: int) -> None:
            for _ in range(count):
                await broker.publish(BODY, routing_key=task.queue)

        async def run(messages: int) -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(CONCURRENCY):
                    nursery.start_soon(publisher, messages // CONCURRENCY)

        await run(task.warm_up)
        meter = Meter.start()
        await run(task.messages)
        return meter.stop(task.messages)


async def _consume(task: Task) -> Sample:
    meter = Meter.start()
    received = 0
    async with open_broker(task.url) as broker, broker.subscribe(task.queue, prefetch=PREFETCH) as messages:
        async for message in messages:
            message.payload  # noqa: B018 - decoded when it is asked for
            message.ack()
            received += 1
            if received == task.warm_up:
                meter = Meter.start()
            elif received == task.warm_up + task.messages:
                break
    return meter.stop(task.messages)
