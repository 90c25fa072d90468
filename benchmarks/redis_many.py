"""A thousand queues on one channel; hundreds of connections that have nothing to do."""

from __future__ import annotations

import time
from typing import Any

import attrs

from .cases import PREFETCH, Task
from .feeder import queue_names
from .meter import BODY, Meter, Sample
from .redis_cases import IDLE_SECONDS
from .redis_fleet import PAUSE, PROCESSES, open_fleet
from .redis_info import Work


def queues(library: Any, task: Task) -> Sample:
    """One consumer of all queues; lone messages come into one after the other, over another connection."""
    ages: list[float] = []

    def callback(body: Any, message: Any) -> None:
        ages.append(time.perf_counter() - body["at"])
        message.ack()

    names = queue_names(task.size)
    with library.Connection(task.url) as connection, library.Connection(task.url) as other:
        producer = other.Producer()
        connection.connect()
        began = time.perf_counter()
        consumer = library.Consumer(
            connection.channel(), [library.Queue(name) for name in names], callbacks=[callback], prefetch_count=PREFETCH
        )
        consumer.consume()
        subscribed = time.perf_counter() - began
        for count in (task.warm_up, task.messages):
            ages.clear()
            before = Work.now(task.url)
            for number in range(count):
                time.sleep(PAUSE)
                producer.publish({**BODY, "at": time.perf_counter()}, routing_key=names[number * 7 % task.size])
                while len(ages) <= number:
                    connection.drain_events(timeout=20)
        work = Work.now(task.url).since(before, task.messages)
    return attrs.evolve(Meter.start().stop(1, ages), cpu=None, rate=None, subscribed=subscribed, **work)


def idle_connections(library: Any, task: Task) -> Sample:
    """As many connections as the case is large, each with a consumer of one empty queue; CPU of all their processes."""
    with open_fleet(library, task, processes=PROCESSES, links=task.size // PROCESSES, channels=1) as fleet:
        before, spent = Work.now(task.url), fleet.cpu()
        time.sleep(IDLE_SECONDS)
        percent = (fleet.cpu() - spent) / IDLE_SECONDS * 100
        work = Work.now(task.url).since(before, IDLE_SECONDS)
    return Sample(idle=percent, **work)
