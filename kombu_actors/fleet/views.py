"""A running fleet at one moment, as frozen JSON-able data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ..supervisors import ChildView
from .certificate import QueueCount

__all__ = ["ConsumerView", "FleetView", "HeldLane", "SlotView", "StuckView"]


@attrs.frozen(kw_only=True)
class SlotView:
    """A slot that is at work."""

    number: int
    message_id: str
    """Of a batch, its first message's."""
    attempt: int
    age: float
    """Seconds since its handler was called."""
    size: int = 1
    """Messages in the batch."""


@attrs.frozen(kw_only=True)
class HeldLane:
    """A lane in which messages wait."""

    key: str
    waiting: int
    """Messages behind the one at work, or held."""
    held_for: float | None
    """Seconds until its first message is tried again; None: it is at work."""


@attrs.frozen(kw_only=True)
class StuckView:
    """A plain function that was cancelled and goes on in its thread."""

    message_id: str
    age: float
    """Seconds since it began."""
    stack: tuple[str, ...]
    """Where it is now."""


@attrs.frozen(kw_only=True)
class ConsumerView:
    """One consumer."""

    queue: str
    path: str
    """Of its actor, in the tree."""
    paused: bool
    narrow: bool
    """Whether one message at a time is tried (``fail_fast``)."""
    concurrency: int
    slots: tuple[SlotView, ...]
    """Those at work."""
    lanes: tuple[HeldLane, ...]
    stuck: tuple[StuckView, ...]
    retrying: int
    """Retries, dead letters and replies that wait for the broker's confirm."""
    count: QueueCount


@attrs.frozen(kw_only=True)
class JobView:
    """How a periodic job stands, in this process."""

    name: str
    holding: bool
    """Whether this process is the one to run it."""
    next_at: float | None
    """When it is due, seconds since 1970; None while it runs, or isn't this process's to run."""
    running_since: float | None
    """Since when it runs; None when it doesn't."""
    ticks: int
    """How often it ran here."""
    failures: int
    """How often it failed here."""


@attrs.frozen(kw_only=True)
class FleetView:
    """A whole fleet."""

    fleet: str
    stopping: bool
    tree: ChildView
    connections: Mapping[str, ChildView]
    """The tree of each connection, by its actor's path."""
    consumers: tuple[ConsumerView, ...]
    jobs: tuple[JobView, ...]

    def to_dict(self) -> dict[str, Any]:
        """Dicts, lists, strings and numbers."""
        return {
            "fleet": self.fleet,
            "stopping": self.stopping,
            "tree": self.tree.to_dict(),
            "connections": {path: view.to_dict() for path, view in self.connections.items()},
            "consumers": [attrs.asdict(consumer) for consumer in self.consumers],
            "jobs": [attrs.asdict(job) for job in self.jobs],
        }
