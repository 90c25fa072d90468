"""What tasks did, as lines of a file that outlives processes: each is one write, so that none is torn."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

__all__ = ["Diary", "Entry"]


@attrs.frozen
class Entry:
    """Task ``name`` has come to ``stage`` (``began``, ``ended``) in a process, at a time of the system's clock."""

    name: str
    stage: str
    pid: int
    at: float


class Diary:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hold = path.with_suffix(".hold")
        path.touch()

    def write(self, name: str, stage: str) -> None:
        """Add an entry of this process."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, f"{name} {stage} {os.getpid()} {time.time()}\n".encode())
        finally:
            os.close(descriptor)

    def read(self, prefix: str) -> list[Entry]:
        """The entries of tasks whose names begin so, in order."""
        words = [line.split(" ") for line in self.path.read_text().splitlines() if line.startswith(prefix)]
        return [Entry(name, stage, int(pid), float(at)) for name, stage, pid, at in words]

    def counts(self, prefix: str, stage: str = "ended") -> Counter[str]:
        """How often each task has come to a stage."""
        return Counter(entry.name for entry in self.read(prefix) if entry.stage == stage)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have tasks that ask ``wait_released`` wait until this is left."""
        self._hold.touch()
        try:
            yield
        finally:
            self._hold.unlink()

    def wait_released(self) -> None:
        """Wait while somebody is in ``hold``, two minutes at most."""
        deadline = time.monotonic() + 120.0
        while self._hold.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
