"""Many consumers on one queue: processes of ``redis_consumers``, fed from here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import psutil

from .cases import Task
from .meter import BODY, Meter, Sample
from .redis_cases import IDLE_CONSUMERS
from .redis_info import Work

PROCESSES = 4
EACH = IDLE_CONSUMERS // PROCESSES
REST = 1.0
"""Seconds until everyone has found the queue empty."""
PAUSE = 0.01
"""Seconds between lone messages: acks have left, and whoever waits waits again."""


def one(library: Any, task: Task) -> Sample:
    """Lone messages for one consumer."""
    return _lone(library, task, processes=1, links=1, channels=1)


def channels(library: Any, task: Task) -> Sample:
    """Lone messages for many consumers on few connections."""
    return _lone(library, task, processes=PROCESSES, links=1, channels=EACH)


def links(library: Any, task: Task) -> Sample:
    """Lone messages for many consumers with a connection each."""
    return _lone(library, task, processes=PROCESSES, links=EACH, channels=1)


def busy_channels(library: Any, task: Task) -> Sample:
    """Many messages for many consumers on few connections."""
    return _many(library, task, processes=PROCESSES, links=1, channels=EACH)


def busy_links(library: Any, task: Task) -> Sample:
    """Many messages for many consumers with a connection each."""
    return _many(library, task, processes=PROCESSES, links=EACH, channels=1)


@attrs.frozen
class Fleet:
    """Processes that write the age in microseconds of every message they get, a line each."""

    processes: list[subprocess.Popen[bytes]]
    lines: Iterator[bytes]

    def cpu(self) -> float:
        """Seconds of processor that they have spent."""
        times = [psutil.Process(process.pid).cpu_times() for process in self.processes]
        return sum(spent.user + spent.system for spent in times)

    def ages(self, count: int) -> list[float]:
        """The ages of the next messages, in seconds."""
        return [int(next(self.lines)) / 1e6 for _ in range(count)]


@contextmanager
def open_fleet(library: Any, task: Task, *, processes: int, links: int, channels: int) -> Iterator[Fleet]:
    wanted = {"library": library.__name__, "url": task.url, "queue": task.queue, "links": links, "channels": channels}
    end, pipe = os.pipe()
    command = [sys.executable, "-m", "benchmarks.redis_consumers", json.dumps(wanted)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=pipe) for _ in range(processes)]
    os.close(pipe)
    with os.fdopen(end, "rb") as lines:
        fleet = Fleet(started, iter(lines.readline, b""))
        fleet.ages(processes * links)  # each says 0 when its consumers are there
        time.sleep(REST)
        yield fleet
        for process in started:
            process.communicate()  # which ends what it reads, and so the process


def _lone(library: Any, task: Task, **size: int) -> Sample:
    ages: list[float] = []
    with open_fleet(library, task, **size) as fleet, library.Connection(task.url) as connection:
        producer = connection.Producer()
        for count in (task.warm_up, task.messages):
            ages.clear()
            before = Work.now(task.url)
            for _ in range(count):
                time.sleep(PAUSE)
                producer.publish({**BODY, "at": time.perf_counter()}, routing_key=task.queue)
                ages += fleet.ages(1)
        work = Work.now(task.url).since(before, task.messages)
    return attrs.evolve(Meter.start().stop(1, ages), cpu=None, rate=None, **work)


def _many(library: Any, task: Task, **size: int) -> Sample:
    with open_fleet(library, task, **size) as fleet, library.Connection(task.url) as connection:
        producer = connection.Producer()
        for count in (task.warm_up, task.messages):
            before, meter, theirs = Work.now(task.url), Meter.start(), fleet.cpu()
            for _ in range(count):
                producer.publish({**BODY, "at": time.perf_counter()}, routing_key=task.queue)
            fleet.ages(count)
        sample = meter.stop(task.messages)
        work = Work.now(task.url).since(before, task.messages)
        cpu = (sample.cpu or 0.0) + (fleet.cpu() - theirs) / task.messages * 1e6
    return attrs.evolve(sample, cpu=cpu, **work)
