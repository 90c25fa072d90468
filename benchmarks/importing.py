"""What a fresh process spends before it does anything: one message of these cases is one process."""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .cases import Task
from .meter import Sample

NAMES = "from {library} import Connection, Consumer, Exchange, Message, Producer, Queue"
MEASURED = """
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
spent = lambda: sum(sum(getrusage(who)[:2]) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
began = spent()
{statement}
print(spent() - began)
"""


def package(library: Any, task: Task) -> Sample:
    """``import kombu``."""
    return _fresh_processes(f"import {library.__name__}", task)


def names(library: Any, task: Task) -> Sample:
    """Import the documented names that most programs use."""
    return _fresh_processes(NAMES.format(library=library.__name__), task)


def connecting(library: Any, task: Task) -> Sample:
    """The same, and connect to the broker."""
    return _fresh_processes(f"{NAMES.format(library=library.__name__)}\nConnection({task.url!r}).connect()", task)


def _fresh_processes(statement: str, task: Task) -> Sample:
    """The median, in microseconds of CPU, of child processes, too; the interpreter's own start is not part of it."""
    with _compiled() as environment:
        command = [sys.executable, "-c", MEASURED.format(statement=statement)]
        run = functools.partial(subprocess.run, command, env=environment, capture_output=True, text=True, check=True)
        run()
        seconds = [float(run().stdout) for _ in range(task.messages)]
    return Sample(cpu=statistics.median(seconds) * 1e6)


@contextmanager
def _compiled() -> Iterator[dict[str, str]]:
    """An environment in which modules are compiled once, as where a package is installed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        yield {**kept, "PYTHONPYCACHEPREFIX": directory}
