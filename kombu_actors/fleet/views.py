"""A running fleet at one moment, as frozen JSON-able data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import attrs

from ..supervisors import ChildView
from ._measures import MeasureView
from .certificate import QueueCount
from .documents import ConsumerDocument, FleetDocument, JobDocument, MeasureDocument, PublishesDocument

__all__ = ["ConsumerView", "FleetView", "HeldLane", "JobView", "PublishesView", "SlotView", "StuckView"]


@attrs.frozen(kw_only=True)
class SlotView:
    """A slot that is at work."""

    number: int
    message_id: str
    """Of a batch, its first message's."""
    attempt: int
    age: float
    """Seconds since its handler was called; real ones, also where a test's clock jumps."""
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
    deaf_for: float
    """Seconds for which nothing came though messages wait for it; 0: it is well."""
    deaf_step: str | None
    """What has been done about that last; see ``events.ConsumerDeaf``."""
    lanes: tuple[HeldLane, ...]
    stuck: tuple[StuckView, ...]
    retrying: int
    """Retries, dead letters and replies that wait for the broker's confirm."""
    count: QueueCount
    calls: MeasureView | None = None
    """How long calls of the handler took, by ``CALL_BOUNDS`` of ``fleet.totals``; None: there has been none."""
    waits: MeasureView | None = None
    """How long messages had waited when they came to the handler first, by ``WAIT_BOUNDS``: those whose publisher had
    stamped them, as our clients do, to the second."""
    progress_at: float | None = None
    """When a call of its handler was done last, well or not, seconds since 1970; None: none has been."""


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
class PublishesView:
    """What handlers published, retries, dead letters and replies, but for those confirmed: ``FleetView.confirms``."""

    waiting: int
    """How many wait for the broker's confirm."""
    refused: int
    """How many the broker has not taken: it said so, there was no such queue, or they were never sent."""
    unknown: int
    """How many it may have taken, or not: the connection was lost, or nobody waited any more."""
    blocked: str | None
    """The broker's reason for taking no publishes; None while it takes them."""


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
    confirms: MeasureView | None = None
    """How long the broker's confirms took, of what handlers published, retries, dead letters and replies; by
    ``CONFIRM_BOUNDS`` of ``fleet.totals``."""
    publishes: PublishesView | None = None
    """What became of the others of these."""
    restarts: Mapping[str, int] = attrs.field(factory=dict)
    """How often an actor went down and was started again, or tried to be, by the part of the tree."""

    def to_dict(self) -> FleetDocument:
        """Dicts, lists, strings and numbers."""
        return {
            "fleet": self.fleet,
            "stopping": self.stopping,
            "tree": self.tree.to_dict(),
            "connections": {path: view.to_dict() for path, view in self.connections.items()},
            "consumers": [cast(ConsumerDocument, attrs.asdict(consumer)) for consumer in self.consumers],
            "jobs": [cast(JobDocument, attrs.asdict(job)) for job in self.jobs],
            "confirms": None if self.confirms is None else cast(MeasureDocument, attrs.asdict(self.confirms)),
            "publishes": None if self.publishes is None else cast(PublishesDocument, attrs.asdict(self.publishes)),
            "restarts": dict(self.restarts),
        }
