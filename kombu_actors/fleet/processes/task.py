"""What a worker process is started for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import attrs

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return attrs.asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Task:
        """From ``to_dict``, as it came."""
        queues = record["queues"]
        given = {**record, "queues": None if queues is None else tuple(queues), "command": tuple(record["command"])}
        return cls(**given)
