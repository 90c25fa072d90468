"""What the workers of the fault soak write down, and how it's read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import attrs


class Entry(NamedTuple):
    """One line."""

    at: float
    """``time.monotonic``, which is one for all processes of a machine."""
    pid: int
    what: str
    number: Any


@attrs.frozen
class Diary:
    """A file that one process writes, each line with one call to the system: a kill loses none, nor half of one."""

    descriptor: int

    @classmethod
    def open(cls, path: str) -> Diary:
        """Begin, or go on."""
        return cls(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))

    def write(self, what: str, number: Any) -> None:
        """Note something about a message."""
        os.write(self.descriptor, json.dumps([time.monotonic(), os.getpid(), what, number]).encode() + b"\n")


def read(folder: Path) -> Iterator[Entry]:
    """All entries of all diaries, by time."""
    lines = [line for path in folder.glob("*.diary") for line in path.read_text().splitlines()]
    yield from sorted(Entry(*json.loads(line)) for line in lines)
