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

PACKAGES = ("kombu-actors", "kombu", "amqp", "aio-pika", "trio")
METRICS = {"cpu": "CPU", "rate": "messages/s", "p50": "p50"}
HEADINGS = ("", "CPU us/message", "messages/s", "p50 us", "p99 us")


def circumstances(broker: str) -> str:
    """What the figures depend on: versions and machine, in one paragraph."""
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    cores = len(os.sched_getaffinity(0))
    return (
        f"Python {platform.python_version()}, RabbitMQ {broker} (one scheduler), {', '.join(versions)};\n"
        f"{_processor()}, {cores} cores for clients and broker, load before the run {os.getloadavg()[0]:.1f}"
    )


def table(case: Case, samples: Samples) -> str:
    """One case: a row per contender that has samples, then a line per goal."""
    rows = [HEADINGS, *(_row(name, runs) for name, runs in samples.items() if runs)]
    columns = [index for index in range(len(HEADINGS)) if any(row[index] for row in rows[1:])]
    widths = {index: max(len(row[index]) for row in rows) for index in columns}
    lines = [f"{case.name}: {case.title}; median (least-most) of {max(map(len, samples.values()))} runs"]
    for name, *cells in rows:
        figures = [cell.rjust(widths[index]) for index, cell in enumerate(cells, 1) if index in widths]
        lines.append("   ".join([f"  {name:<22}", *figures]))
    return "\n".join([*lines, *(f"  {line}" for line in _verdicts(case, samples))])


def _row(name: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    return (
        name,
        _spread([sample.cpu for sample in samples], 1),
        _spread([sample.rate for sample in samples], 0),
        _spread([sample.p50 for sample in samples if sample.p50 is not None], 0),
        _spread([sample.p99 for sample in samples if sample.p99 is not None], 0),
    )


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


def _verdicts(case: Case, samples: Samples) -> list[str]:
    yardstick, ours = (contender.name for contender in case.contenders)
    if not (samples[yardstick] and samples[ours]):
        return []
    lines = []
    for goal in case.goals:
        ratio = _median(samples[ours], goal.metric) / _median(samples[yardstick], goal.metric)
        lines.append(f"{ours} / {yardstick}, {METRICS[goal.metric]}: {ratio:.2f}, {goal.judge(ratio)}")
    return lines


def _median(samples: Sequence[Sample], metric: str) -> float:
    values: list[float] = [getattr(sample, metric) for sample in samples]
    return statistics.median(values)


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
