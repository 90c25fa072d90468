"""What is served: anything that has a status and tells what happens."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..fleet.status import Status
from ..supervisors import EventStream

__all__ = ["Observed"]


class Observed(Protocol):
    """A running program as its readers know it; ``fleet.program.Program`` is one."""

    def status(self) -> Status:
        """How all of it stands."""

    def events(self, capacity: int = ...) -> AbstractAsyncContextManager[EventStream]:
        """``Happened`` records from now on; a reader that falls behind loses the oldest."""
