"""What a worker process is told first."""

from __future__ import annotations

import os

import attrs

from .._telling import StartRecord
from .task import Task


@attrs.frozen(kw_only=True)
class Start:
    """What a process is told when it is started."""

    task: Task
    number: int
    generation: int
    paused: tuple[str, ...]
    wait_for_broker: bool
    silence: float
    """Seconds without a word after which it is killed."""

    def to_dict(self, hands: int) -> StartRecord:
        """The first record that it gets; ``hands`` is the descriptor of its memory for what is in hand."""
        return {
            "parent": os.getpid(),
            "hands": hands,
            "task": self.task.to_dict(),
            "number": self.number,
            "generation": self.generation,
            "paused": self.paused,
            "wait_for_broker": self.wait_for_broker,
            "silence": self.silence,
        }
