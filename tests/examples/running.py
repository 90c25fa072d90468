"""Running the programs in ``examples/`` as their readers do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
"""Seconds; the machine may be busy.  Each example takes a second or two."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}


def command(name: str, *arguments: str) -> list[str]:
    """The command line of an example."""
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]


def run_example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        command(name, *arguments), capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT, check=False
    )


@contextmanager
def start_example(name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start an example; it is killed if it is still there at the end of the block."""
    with subprocess.Popen(
        command(name, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        try:
            yield process
        finally:
            process.kill()
