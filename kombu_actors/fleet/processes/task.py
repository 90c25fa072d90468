"""What a worker process is started for."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import attrs

from .._telling import TaskRecord

__all__ = ["Task"]


@attrs.frozen(kw_only=True, repr=False)
class Task:
    """Which fleet a worker runs, and how.  Its repr says no URL: that may hold a password, and goes over a socket."""

    fleet: str
    """``module:attribute``."""
    url: str | None = None
    """Another broker than the fleet's own; several with ``;`` between them."""
    queues: tuple[str, ...] | None = None
    """Only the consumers of these; None: all."""
    changes: Mapping[str, float] = attrs.field(factory=dict)
    """Further arguments of ``Fleet.on``."""
    log_level: str = "info"
    log_json: bool = False
    command: tuple[str, ...] = (sys.executable, "-m", "kombu_actors.cli.worker")
    """What is executed, with the descriptor of its socket, and names for people, behind it."""

    def __repr__(self) -> str:
        return f"<Task: {self.fleet}>"

    def to_dict(self) -> TaskRecord:
        """JSON-able."""
        return {
            "fleet": self.fleet,
            "url": self.url,
            "queues": self.queues,
            "changes": self.changes,
            "log_level": self.log_level,
            "log_json": self.log_json,
            "command": self.command,
        }

    @classmethod
    def of(cls, record: TaskRecord) -> Task:
        """From ``to_dict``, as it came."""
        queues = record["queues"]
        return cls(
            fleet=record["fleet"],
            url=record["url"],
            queues=None if queues is None else tuple(queues),
            changes=record["changes"],
            log_level=record["log_level"],
            log_json=record["log_json"],
            command=tuple(record["command"]),
        )
