"""Medians, ratios and verdicts, as a table."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from .cases import Case
from .meter import Sample

Samples = Mapping[str, Sequence[Sample]]
"""Per contender, in the order of the rounds."""

PACKAGES = ("kombu-actors", "kombu", "amqp", "redis", "hiredis", "aio-pika", "trio", "uvloop")
METRICS = {
    "cpu": "CPU",
    "main": "CPU of the main process",
    "rate": "messages/s",
    "p50": "p50",
    "p99": "p99",
    "idle": "CPU",
    "server": "CPU of the server",
    "subscribed": "seconds until all were there",
    "restored": "seconds until all were heard again",
    "memory": "kB each",
}
COLUMNS = {
    "cpu": ("CPU us/message", 1),
    "main": ("main process us", 1),
    "rate": ("messages/s", 0),
    "p50": ("p50 us", 0),
    "p99": ("p99 us", 0),
    "idle": ("CPU %", 2),
    "commands": ("Redis commands", 1),
    "server": ("Redis CPU us", 1),
    "subscribed": ("all there s", 2),
    "restored": ("heard again s", 2),
    "memory": ("kB each", 1),
}
"""Per figure of a sample: its heading, and how many digits are worth showing."""


def circumstances(brokers: str) -> str:
    """What the figures depend on: versions and machine, in one paragraph."""
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    cores = len(os.sched_getaffinity(0))
    return (
        f"Python {platform.python_version()}, {brokers}, {', '.join(versions)};\n"
        f"{_processor()}, {cores} cores for clients and broker, load before the run {os.getloadavg()[0]:.1f}"
    )


def table(case: Case, samples: Samples) -> str:
    """One case: a row per contender that has samples, then a line per goal."""
    rows = [("", *(heading for heading, _ in COLUMNS.values()))]
    rows += [_row(name, runs) for name, runs in samples.items() if runs]
    columns = [index for index in range(len(rows[0])) if any(row[index] for row in rows[1:])]
    widths = {index: max(len(row[index]) for row in rows) for index in columns}
    lines = [f"{case.name}: {case.title}; median (least-most) of {max(map(len, samples.values()))} runs"]
    for name, *cells in rows:
        figures = [cell.rjust(widths[index]) for index, cell in enumerate(cells, 1) if index in widths]
        lines.append("   ".join([f"  {name:<27}", *figures]))
    return "\n".join([*lines, *(f"  {line}" for line in _verdicts(case, samples))])


def _row(name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    spreads = (_spread(_values(samples, metric), digits) for metric, (_, digits) in COLUMNS.items())
    return (name, *spreads)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


def _verdicts(case: Case, samples: Samples) -> list[str]:
    yardstick, ours = (case.row(case.contenders[place], case.sizes[-1]) for place in (0, -1))
    one = case.row(case.contenders[-1], case.sizes[0])
    if not (samples[yardstick] and samples[ours] and samples[one]):
        return []
    lines = []
    for goal in case.goals:
        figure, who = statistics.median(_values(samples[ours], goal.metric)), ours
        if not goal.of_ours:
            beside = one if goal.of_one else yardstick
            figure, who = figure / statistics.median(_values(samples[beside], goal.metric)), f"{ours} / {beside}"
        lines.append(f"{who}, {METRICS[goal.metric]}: {figure:.2f}, {goal.judge(figure)}")
    return lines


def _values(samples: Sequence[Sample], metric: str) -> list[float]:
    values = [getattr(sample, metric) for sample in samples]
    return [value for value in values if value is not None]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed: the source tree)"


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
