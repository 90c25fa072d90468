"""Many consumers, threads or channels in one process: one program for kombu and kombu_actors."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import attrs
import psutil

from .cases import PREFETCH, Task
from .feeder import feeding, queue_names
from .meter import BODY, Meter, Sample, resident


def consumers(library: Any, task: Task) -> Sample:
    """Subscribe to all queues, consume from all, lose the connection, and hear from all once more."""
    received = 0
    heard: set[str] = set()

    def callback(body: Any, message: Any) -> None:
        nonlocal received
        received += 1
        message.ack()

    def note(body: Any, message: Any) -> None:
        heard.add(message.delivery_info["routing_key"])
        message.ack()

    with feeding(task) as feeder, library.Connection(task.url) as connection:
        connection.connect()
        before, began = resident(), time.perf_counter()
        subscribers = []
        for name in queue_names(task.size):
            subscriber = library.Consumer(
                connection.channel(), library.Queue(name), callbacks=[callback], prefetch_count=PREFETCH
            )
            subscriber.consume()
            subscribers.append(subscriber)
        subscribed, memory = time.perf_counter() - began, resident() - before
        for count in (task.warm_up, task.messages):
            received, meter = 0, Meter.start()
            feeder.begin(count)
            feeder.wait()  # all queues fill while the program does something else
            while received < count:
                connection.drain_events(timeout=20)
            sample = meter.stop(count)
        for subscriber in subscribers:
            subscriber.callbacks[:] = [note]
        began = time.perf_counter()
        lose(task.url)
        feeder.begin(task.size)
        while len(heard) < task.size:
            try:
                connection.drain_events(timeout=20)
            except connection.connection_errors:  # kombu's callers subscribe again, ours needn't
                connection.ensure_connection()
                for subscriber in subscribers:
                    subscriber.revive(connection.channel())
                    subscriber.consume()
        restored = time.perf_counter() - began
        feeder.wait()
    return attrs.evolve(sample, subscribed=subscribed, restored=restored, memory=memory / task.size / 1000)


def threads(library: Any, task: Task) -> Sample:
    """Publish from many threads with one ``Producer``, until all is confirmed where it is to be."""
    lock = threading.Lock()

    def publish(count: int) -> None:
        for _ in range(count):
            if library.__name__ == "kombu":
                with lock:
                    producer.publish(BODY, routing_key=task.queue, delivery_mode=2)
            else:
                producer.publish(BODY, routing_key=task.queue, delivery_mode=2)

    def publish_all(count: int) -> None:
        shares = [count // task.size + (number < count % task.size) for number in range(task.size)]
        workers = [threading.Thread(target=publish, args=(share,)) for share in shares]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    connection = library.Connection(task.url)
    producer = connection.Producer()
    publish_all(task.warm_up)
    meter = Meter.start()
    publish_all(task.messages)
    connection.release()
    return meter.stop(task.messages)


def channels(library: Any, task: Task) -> Sample:
    """Open channels, and publish over one after the other, until all is confirmed where it is to be."""
    connection = library.Connection(task.url)
    connection.connect()
    before, began = resident(), time.perf_counter()
    producers = [library.Producer(connection.channel()) for _ in range(task.size)]
    subscribed, memory = time.perf_counter() - began, resident() - before
    for count in (task.warm_up, task.messages):
        meter = Meter.start()
        for number in range(count):
            producers[number % task.size].publish(BODY, routing_key=task.queue, delivery_mode=2)
    connection.release()
    return attrs.evolve(meter.stop(task.messages), subscribed=subscribed, memory=memory / task.size / 1000)


def lose(url: str) -> None:
    """Have the process's connection to the broker end, as a fault of the network would."""
    port = urlsplit(url).port
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port == port:
            with socket.socket(fileno=os.dup(connection.fd)) as handle:
                handle.shutdown(socket.SHUT_RDWR)
