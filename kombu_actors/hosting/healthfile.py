"""``--health-file``: a file that is there, and fresh, while every consumer consumes."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from ..fleet.program import Program
from ..fleet.status import Status
from .following import follow

__all__ = ["HealthFile"]

EVERY = 5.0
"""Seconds after which it is touched again: a probe that wants it 15 s old at most allows for a busy machine."""


class HealthFile:
    """A companion that keeps the file.  Killed, the process leaves it behind: a probe looks at its age, too."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(
        self, program: Program, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep it until cancelled; raises ``OSError`` when it can't be written there."""
        try:
            self._path.write_text("")
            self._path.unlink()
        except OSError as error:
            raise OSError(f"the health file {self._path} can't be written: {error.strerror}") from error
        task_status.started()
        try:
            await follow(program, self._tell, EVERY)
        finally:
            self._path.unlink(missing_ok=True)

    def _tell(self, status: Status) -> None:
        if not status.ready:
            self._path.unlink(missing_ok=True)
        elif self._path.exists():
            os.utime(self._path)
        else:
            self._path.write_text(f"{status.state.value}\n")
