"""aio-pika, written to its documentation: what asyncio programs use."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aio_pika

from .cases import CONCURRENCY, PREFETCH, Task
from .meter import BODY, Meter, Sample


def publish(_: Any, task: Task) -> Sample:
    """Tasks that await ``exchange.publish`` in a loop, publisher confirms on."""
    return asyncio.run(_publish(task))


def consume(_: Any, task: Task) -> Sample:
    """``Queue.consume`` with a callback that decodes and acknowledges: a bit cheaper than its iterator."""
    return asyncio.run(_consume(task))


async def _publish(task: Task) -> Sample:
    connection = await aio_pika.connect_robust(task.url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        exchange = channel.default_exchange

        async def publisher(count: int) -> None:
            for _ in range(count):
                message = aio_pika.Message(
                    json.dumps(BODY).encode(),
                    content_type="application/json",
                    content_encoding="utf-8",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await exchange.publish(message, routing_key=task.queue)

        async def run(messages: int) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(CONCURRENCY):
                    group.create_task(publisher(messages // CONCURRENCY))

        await run(task.warm_up)
        meter = Meter.start()
        await run(task.messages)
        return meter.stop(task.messages)


async def _consume(task: Task) -> Sample:
    connection = await aio_pika.connect_robust(task.url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(task.queue)
        received = 0
        reached = asyncio.Event()
        goal = task.warm_up

        async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            nonlocal received
            json.loads(message.body)
            await message.ack()
            received += 1
            if received == goal:
                reached.set()

        await queue.consume(on_message)
        await reached.wait()
        reached.clear()
        meter, before = Meter.start(), received
        goal = task.warm_up + task.messages
        await reached.wait()
        return meter.stop(received - before)
