"""``kombu_actors.aio.open_broker``: the same programs as ``on_trio``, inside asyncio's loop and uvloop's."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from kombu_actors.aio import open_broker

from .cases import CONCURRENCY, PREFETCH, Task
from .meter import BODY, Meter, Sample


def publish(_: Any, task: Task) -> Sample:
    """Tasks that await ``Broker.publish`` in a loop."""
    return asyncio.run(_publish(task))


def consume(_: Any, task: Task) -> Sample:
    """``async for`` over a subscription; each message is decoded and acknowledged."""
    return asyncio.run(_consume(task))


def publish_on_uvloop(_: Any, task: Task) -> Sample:
    """``publish`` in uvloop."""
    return uvloop.run(_publish(task))


def consume_on_uvloop(_: Any, task: Task) -> Sample:
    """``consume`` in uvloop."""
    return uvloop.run(_consume(task))


async def _publish(task: Task) -> Sample:
    async with open_broker(task.url) as broker:

        async def publisher(count: int) -> None:
            for _ in range(count):
                await broker.publish(BODY, routing_key=task.queue)

        async def run(messages: int) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(publisher(messages // CONCURRENCY))

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
