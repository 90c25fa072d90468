"""kombu and kombu_actors: one program for both, written to kombu's documentation."""

from __future__ import annotations

import time
from typing import Any

from .cases import PAUSE, PREFETCH, Task
from .meter import BODY, Meter, Sample

# The libraries are handed in as modules: which one runs is the only difference.


def publish(library: Any, task: Task) -> Sample:
    """``Producer.publish`` in a loop, and ``release``, which for us includes waiting for all confirms."""
    return _publish_all(library, task, {})


def publish_batched(library: Any, task: Task) -> Sample:
    """``publish`` within kombu's ``Producer.batch()``: what fills a batch travels together."""
    with library.Connection(task.url) as connection:
        producer = connection.Producer()
        with producer.batch():
            _publish(producer, task.queue, task.warm_up + 1)
        meter = Meter.start()
        with producer.batch():
            _publish(producer, task.queue, task.messages - 1)
        return meter.stop(task.messages - 1)


def publish_confirmed(library: Any, task: Task) -> Sample:
    """``Producer.publish`` in a loop, each call until its message is confirmed."""
    return _publish_all(library, task, {"confirm_publish": True})


def _publish_all(library: Any, task: Task, options: dict[str, Any]) -> Sample:
    with library.Connection(task.url, transport_options=options) as connection:
        _publish(connection.Producer(), task.queue, task.warm_up)
    connection = library.Connection(task.url, transport_options=options)
    producer = connection.Producer()
    _publish(producer, task.queue, 1)  # connects and opens the channel
    meter = Meter.start()
    _publish(producer, task.queue, task.messages - 1)
    connection.release()
    return meter.stop(task.messages - 1)


def consume(library: Any, task: Task) -> Sample:
    """A callback that acknowledges, in a ``drain_events`` loop."""
    received = 0

    def callback(body: Any, message: Any) -> None:
        nonlocal received
        received += 1
        message.ack()

    with library.Connection(task.url) as connection:
        queue = library.Queue(task.queue)
        with connection.Consumer(queue, callbacks=[callback], prefetch_count=PREFETCH):
            while received < task.warm_up:
                connection.drain_events(timeout=10)
            meter, before = Meter.start(), received
            while received < task.warm_up + task.messages:
                connection.drain_events(timeout=10)
    return meter.stop(received - before)


def latency(library: Any, task: Task) -> Sample:
    """One message at a time: publish it, drain until it has come, acknowledge it."""
    return _one_at_a_time(library, task, 0, delivery_mode=1)


def latency_persistent(library: Any, task: Task) -> Sample:
    """The same with persistent messages and a pause after each."""
    return _one_at_a_time(library, task, PAUSE, delivery_mode=2)


def latency_confirms(library: Any, task: Task) -> Sample:
    """``latency_persistent`` for kombu with its channel in confirm mode, without waiting for the confirms."""
    return _one_at_a_time(library, task, PAUSE, delivery_mode=2, confirms=True)


def ping_pong(library: Any, task: Task) -> Sample:
    """The same without the pause."""
    return _one_at_a_time(library, task, 0, delivery_mode=2)


def _one_at_a_time(library: Any, task: Task, pause: float, *, delivery_mode: int, confirms: bool = False) -> Sample:
    latencies: list[float] = []
    sent_at = 0.0

    def callback(body: Any, message: Any) -> None:
        latencies.append(time.perf_counter() - sent_at)
        message.ack()

    with library.Connection(task.url) as connection:
        producer = connection.Producer()
        if confirms:
            producer.channel.confirm_select()
        queue = library.Queue(task.queue)
        with connection.Consumer(queue, callbacks=[callback], prefetch_count=PREFETCH):
            for count in (task.warm_up, task.messages):
                latencies.clear()
                meter = Meter.start()
                for done in range(count):
                    if pause:
                        time.sleep(pause)  # not sleep(0): that would let other threads go first
                    sent_at = time.perf_counter()
                    producer.publish(BODY, routing_key=task.queue, delivery_mode=delivery_mode)
                    while len(latencies) == done:
                        connection.drain_events(timeout=10)
            return meter.stop(task.messages, latencies)


def memory(library: Any, task: Task) -> Sample:
    """Publish everything, then consume everything, within the process."""
    received = 0

    def callback(body: Any, message: Any) -> None:
        nonlocal received
        received += 1
        message.ack()

    with library.Connection("memory://benchmarks") as connection:
        producer = connection.Producer()
        queue = library.Queue(task.queue)
        with connection.Consumer(queue, callbacks=[callback], prefetch_count=PREFETCH):
            for count in (task.warm_up, task.messages):
                received = 0
                meter = Meter.start()
                _publish(producer, task.queue, count)
                while received < count:
                    connection.drain_events(timeout=10)
            return meter.stop(task.messages)


def _publish(producer: Any, queue: str, count: int) -> None:
    for _ in range(count):
        producer.publish(BODY, routing_key=queue, delivery_mode=2)
