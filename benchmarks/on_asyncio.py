"""aio-pika, written to its documentation: what asyncio programs use."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aio_pika
import attrs

from .cases import CONCURRENCY, PREFETCH, Task
from .feeder import Feeder, feeding, queue_names
from .many import lose
from .meter import BODY, Meter, Sample, resident


def publish(_: Any, task: Task) -> Sample:
    """Tasks that await ``exchange.publish`` in a loop, publisher confirms on."""
    return asyncio.run(_publish(task))


def consume(_: Any, task: Task) -> Sample:
    """``Queue.consume`` with a callback that decodes and acknowledges: a bit cheaper than its iterator."""
    return asyncio.run(_consume(task))


def many_consumers(_: Any, task: Task) -> Sample:
    """``Queue.consume`` on a channel for each of many queues; reconnecting is aio-pika's, without its pause of 5 s."""
    with feeding(task) as feeder:
        return asyncio.run(_many_consumers(task, feeder))


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


async def _many_consumers(task: Task, feeder: Feeder) -> Sample:
    received, goal, everybody = 0, 0, -1
    heard: set[str] = set()
    reached = asyncio.Event()
    connection = await aio_pika.connect_robust(task.url, reconnect_interval=0.1)
    async with connection:

        async def subscribe(name: str) -> None:
            async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                nonlocal received
                json.loads(message.body)
                await message.ack()
                received += 1
                heard.add(name)
                if received == goal or len(heard) == everybody:
                    reached.set()

            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            await (await channel.get_queue(name)).consume(on_message)

        before, began = resident(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for name in queue_names(task.size):
                group.create_task(subscribe(name))
        subscribed, memory = time.perf_counter() - began, resident() - before
        for count in (task.warm_up, task.messages):
            received, goal, meter = 0, count, Meter.start()
            feeder.begin(count)
            feeder.wait()  # all queues fill while the program does something else
            while received < count:
                reached.clear()
                await reached.wait()
            sample = meter.stop(count)
        heard.clear()
        everybody, began = task.size, time.perf_counter()
        lose(task.url)
        feeder.begin(task.size)
        while len(heard) < task.size:
            reached.clear()
            await reached.wait()
        restored = time.perf_counter() - began
        feeder.wait()
    return attrs.evolve(sample, subscribed=subscribed, restored=restored, memory=memory / task.size / 1000)
