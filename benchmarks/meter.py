"""Measuring: what a process spent on a number of messages."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Self

import attrs
import psutil

BODY = {
    "id": "061da373-7261-4553-bdf0-a224062ff2c5",
    "task": "orders.confirm",
    "args": [12345, "hello"],
    "retries": 0,
    "eta": None,
}
"""The message of every case: 125 bytes as JSON."""


@attrs.frozen(kw_only=True)
class Sample:
    """What one run of one contender came to."""

    cpu: float | None = None
    """CPU of the client's processes per message, all their threads, user and system: microseconds."""
    rate: float | None = None
    """Messages per second of wall clock."""
    p50: float | None = None
    """Median time from publish to receipt: microseconds."""
    p99: float | None = None
    idle: float | None = None
    """CPU of the client process while nothing happens, in percent of one core."""
    commands: float | None = None
    """Redis: commands per message, those within scripts included; per second where nothing happens."""
    server: float | None = None
    """Redis: CPU of the server per message: microseconds; per second where nothing happens."""
    subscribed: float | None = None
    """Seconds until all of many were there."""
    restored: float | None = None
    """Seconds from the loss of the connection until all of them have been heard again."""
    main: float | None = None
    """Celery: the part of ``cpu`` that the worker's main process spent, where the broker is spoken to."""
    memory: float | None = None
    """Resident memory that one of many takes: thousands of bytes."""


@attrs.frozen
class Meter:
    """Runs from ``start`` to ``stop``; reading it costs some microseconds once."""

    cpu: float
    wall: float

    @classmethod
    def start(cls) -> Self:
        """Begin to measure."""
        return cls(_cpu_seconds(), time.perf_counter())

    def cpu_seconds(self) -> float:
        """What was spent until now."""
        return _cpu_seconds() - self.cpu

    def stop(self, messages: int, latencies: Sequence[float] = ()) -> Sample:
        """End; ``latencies`` are in seconds, one per message, where the case is about them."""
        wall = time.perf_counter() - self.wall
        cpu = self.cpu_seconds()
        cuts = statistics.quantiles(latencies, n=100) if latencies else None
        return Sample(
            cpu=cpu / messages * 1e6,
            rate=messages / wall,
            p50=cuts[49] * 1e6 if cuts else None,
            p99=cuts[98] * 1e6 if cuts else None,
        )


def resident() -> int:
    """Bytes of memory that the process has in use."""
    gc.collect()
    size: int = psutil.Process().memory_info().rss
    return size


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
