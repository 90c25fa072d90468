"""The programs of ``blocking`` on Redis, with what they cost the server; and one that waits for nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import attrs

from . import blocking
from .cases import Task
from .meter import BODY, Meter, Sample
from .redis_cases import IDLE_SECONDS
from .redis_info import Work


def publish(library: Any, task: Task) -> Sample:
    """``blocking.publish``."""
    return _with_server(blocking.publish, library, task)


def publish_batched(library: Any, task: Task) -> Sample:
    """``blocking.publish_batched``."""
    return _with_server(blocking.publish_batched, library, task)


def consume(library: Any, task: Task) -> Sample:
    """``blocking.consume``."""
    return _with_server(blocking.consume, library, task)


def connect(library: Any, task: Task) -> Sample:
    """A connection for each message, from connecting to the end of its release."""
    for _ in range(20):
        _publish_over_a_connection_of_its_own(library, task)
    meter = Meter.start()
    took = [_publish_over_a_connection_of_its_own(library, task) for _ in range(task.messages)]
    return meter.stop(task.messages, took)


def _publish_over_a_connection_of_its_own(library: Any, task: Task) -> float:
    """Seconds."""
    began = time.perf_counter()
    with library.Connection(task.url) as connection:
        connection.connect()
        connection.Producer().publish(BODY, routing_key=task.queue)
    return time.perf_counter() - began


def _with_server(program: Callable[[Any, Task], Sample], library: Any, task: Task) -> Sample:
    before = Work.now(task.url)
    sample = program(library, task)
    return attrs.evolve(sample, **Work.now(task.url).since(before, task.messages + task.warm_up))


def idle(library: Any, task: Task) -> Sample:
    """A consumer, and nothing to consume."""
    with library.Connection(task.url) as connection, connection.Consumer(library.Queue(task.queue)):
        _drain_for(connection, 1.0)
        before, meter = Work.now(task.url), Meter.start()
        _drain_for(connection, IDLE_SECONDS)
        percent = meter.cpu_seconds() / IDLE_SECONDS * 100
        work = Work.now(task.url).since(before, IDLE_SECONDS)
    return Sample(idle=percent, **work)


def _drain_for(connection: Any, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        try:
            connection.drain_events(timeout=left)
        except TimeoutError:
            return
