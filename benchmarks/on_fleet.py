"""Consumer fleets: ours, and FastStream's, with an async handler that does nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import trio

from .cases import FLEET_CONCURRENCY, Task
from .meter import Meter, Sample


class Count:
    """Counts messages in a handler; measures those after the warm-up."""

    def __init__(self, task: Task) -> None:
        self.received = 0
        self.meter = Meter.start()
        self.sample: Sample | None = None
        self._task = task

    def one(self) -> bool:
        """One more; True when it was the last."""
        self.received += 1
        if self.received == self._task.warm_up:
            self.meter = Meter.start()
        if self.received != self._task.warm_up + self._task.messages:
            return False
        self.sample = self.meter.stop(self._task.messages)
        return True


def consume(_: Any, task: Task) -> Sample:
    """A ``Fleet`` with one consumer and all its defaults but the concurrency."""
    from kombu_actors.fleet import Fleet

    fleet, count = Fleet(task.url), Count(task)

    @fleet.consumer(task.queue, concurrency=FLEET_CONCURRENCY)
    async def handle(body: dict[str, Any]) -> None:
        if count.one():
            fleet.drain("all have come")

    trio.run(fleet.run)
    assert count.sample is not None  # it drains after the last one
    return count.sample


def faststream(_: Any, task: Task) -> Sample:
    """A FastStream application with one subscriber; as many messages at once as the broker sends ahead."""
    return asyncio.run(_faststream(task))


async def _faststream(task: Task) -> Sample:
    from faststream import FastStream
    from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

    logging.disable(logging.WARNING)
    channel = Channel(prefetch_count=2 * FLEET_CONCURRENCY)
    broker = RabbitBroker(task.url, default_channel=channel, logger=None)
    app, count = FastStream(broker, logger=None), Count(task)

    @broker.subscriber(RabbitQueue(task.queue, durable=True, declare=False))
    async def handle(body: dict[str, Any]) -> None:
        if count.one():
            app.exit()

    await app.run()
    assert count.sample is not None  # it exits after the last one
    return count.sample
