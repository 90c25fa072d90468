"""``open_broker``: kombu_actors without the facade, inside a trio program."""

from __future__ import annotations

import time
from typing import Any

import attrs
import trio

from kombu_actors.broker import open_broker

from .cases import CONCURRENCY, PREFETCH, Task
from .feeder import Feeder, feeding, queue_names
from .many import lose
from .meter import BODY, Meter, Sample, resident


def publish(_: Any, task: Task) -> Sample:
    """Tasks that await ``Broker.publish`` in a loop."""
    return trio.run(_publish, task)


def consume(_: Any, task: Task) -> Sample:
    """``async for`` over a subscription; each message is decoded and acknowledged."""
    return trio.run(_consume, task)


def many_consumers(_: Any, task: Task) -> Sample:
    """A task for each of many subscriptions."""
    with feeding(task) as feeder:
        return trio.run(_many_consumers, task, feeder)


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


async def _many_consumers(task: Task, feeder: Feeder) -> Sample:
    received, goal, everybody = 0, 0, -1
    heard: set[str] = set()
    reached = trio.Event()
    async with open_broker(task.url) as broker, trio.open_nursery() as nursery:

        async def serve(name: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            nonlocal received
            async with broker.subscribe(name, prefetch=PREFETCH) as messages:
                task_status.started()
                async for message in messages:
                    message.payload  # noqa: B018 - decoded when it is asked for
                    message.ack()
                    received += 1
                    heard.add(name)
                    if received == goal or len(heard) == everybody:
                        reached.set()

        before, began = resident(), time.perf_counter()
        async with trio.open_nursery() as starting:
            for name in queue_names(task.size):
                starting.start_soon(nursery.start, serve, name)
        subscribed, memory = time.perf_counter() - began, resident() - before
        for count in (task.warm_up, task.messages):
            received, goal, meter = 0, count, Meter.start()
            feeder.begin(count)
            feeder.wait()  # all queues fill while the program does something else
            while received < count:
                reached = trio.Event()
                await reached.wait()
            sample = meter.stop(count)
        heard.clear()
        everybody, began = task.size, time.perf_counter()
        lose(task.url)
        feeder.begin(task.size)
        while len(heard) < task.size:
            reached = trio.Event()
            await reached.wait()
        restored = time.perf_counter() - began
        feeder.wait()
        nursery.cancel_scope.cancel()
    return attrs.evolve(sample, subscribed=subscribed, restored=restored, memory=memory / task.size / 1000)
