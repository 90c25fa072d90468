"""``kombu-actors`` as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

HERE = Path(__file__).parent
PATIENCE = 30.0
"""Seconds for a process to start or to end, on a busy machine."""


@attrs.frozen
class Ended:
    """How a run of the program ended."""

    code: int
    out: str
    err: str


@attrs.define
class Program:
    """It is running; what it writes is read as it comes."""

    process: subprocess.Popen[str]
    out: list[str] = attrs.field(factory=list)
    err: list[str] = attrs.field(factory=list)
    changed: threading.Condition = attrs.field(factory=threading.Condition)
    readers: list[threading.Thread] = attrs.field(factory=list)

    def wait_for(self, text: str) -> None:
        """Wait until it has written that, to stdout or stderr."""
        self.wait_for_count(text, 1)

    def wait_for_count(self, text: str, count: int) -> None:
        """Wait until it has written so many lines with that."""
        with self.changed:
            found = self.changed.wait_for(
                lambda: sum(text in line for line in (*self.out, *self.err)) >= count, PATIENCE
            )
        assert found, f"no {text!r} in\n{''.join(self.out)}\n{''.join(self.err)}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> Ended:
        """Wait until it has ended."""
        code = self.process.wait(PATIENCE)
        for reader in self.readers:
            reader.join(PATIENCE)
        return Ended(code, "".join(self.out), "".join(self.err))

    def read(self, stream: Iterator[str], lines: list[str]) -> None:
        """Read one of its streams to the end."""
        for line in stream:
            with self.changed:
                lines.append(line)
                self.changed.notify_all()


@contextmanager
def running(*arguments: str, environment: Mapping[str, str] | None = None, folder: Path = HERE) -> Iterator[Program]:
    """Run ``kombu-actors`` with these arguments, in a folder, while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kombu_actors", *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    program = Program(process)
    for stream, lines in ((process.stdout, program.out), (process.stderr, program.err)):
        assert stream is not None
        program.readers.append(threading.Thread(target=program.read, args=(stream, lines), daemon=True))
        program.readers[-1].start()
    try:
        yield program
    finally:
        process.kill()
        process.wait()
        for reader in program.readers:
            reader.join(PATIENCE)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run it to its end."""
    with running(*arguments, environment=environment) as program:
        return program.wait()
