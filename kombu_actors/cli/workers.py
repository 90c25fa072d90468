"""The flags of ``run`` that are about worker processes, and the program that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import click

from ..fleet import Fleet
from ..fleet.processes import DEATHS, RESTARTS, SILENCE, Processes, Recycling, Task
from ..fleet.program import Program, SingleProcess
from .options import BYTES, option

__all__ = ["WorkerFlags", "program_of", "worker_options"]

C = TypeVar("C", bound=Callable[..., object])

_OPTIONS = (
    option("-p", "--processes", type=click.IntRange(min=1), help="Run in so many worker processes, under a parent."),
    option("--max-messages", type=click.IntRange(min=1), help="Replace a worker that has handled so many; with -p."),
    option("--max-memory", metavar="BYTES", type=BYTES, help="Replace a worker that keeps more: 512M, 2G; with -p."),
    option(
        "--max-age", metavar="SECONDS", type=click.FloatRange(min=1), help="Replace a worker that is older; with -p."
    ),
    option(
        "--max-restarts",
        type=click.IntRange(min=0),
        default=RESTARTS,
        show_default=True,
        help="Restarts a minute and worker before it gives up; with -p.",
    ),
    option(
        "--max-deaths",
        type=click.IntRange(min=1),
        default=DEATHS,
        show_default=True,
        help="A message in hand at so many deaths of workers, at the last one alone, is dead-lettered; with -p.",
    ),
    option(
        "--silence",
        metavar="SECONDS",
        type=click.FloatRange(min=2),
        default=SILENCE,
        show_default=True,
        help="A worker that says nothing for so long, being stopped or blocked, is killed and replaced; with -p.",
    ),
)


def worker_options(command: C) -> C:
    """Give a command these options; it gets them as keywords for ``WorkerFlags``."""
    for one in reversed(_OPTIONS):
        command = one(command)
    return command


@attrs.frozen(kw_only=True)
class WorkerFlags:
    """What was given."""

    processes: int | None
    max_messages: int | None
    max_memory: int | None
    max_age: float | None
    max_restarts: int
    max_deaths: int
    silence: float


def program_of(fleet: Fleet, task: Task, flags: WorkerFlags) -> Program:
    """A parent with its workers, or this process alone; raises ``UsageError``."""
    recycling = Recycling(max_messages=flags.max_messages, max_memory=flags.max_memory, max_age=flags.max_age)
    if flags.processes is not None:
        return Processes(
            fleet,
            task,
            flags.processes,
            recycling=recycling,
            silence=flags.silence,
            deaths=flags.max_deaths,
            restarts=flags.max_restarts,
        )
    if recycling != Recycling():
        raise click.UsageError("--max-messages, --max-memory and --max-age are about worker processes: give -p, too")
    return SingleProcess(fleet)
