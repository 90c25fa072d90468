"""What the ``to_dict`` of each view gives, as types: the JSON of ``status``, ``/status.json`` and certificates.

Each is named after the class that it is of, whose fields say what the names mean.  They are dicts as they run: what is
read of a fleet of another version may lack some, and have others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from ..supervisors import ChildDocument

__all__ = [
    "CertificateDocument",
    "ChildDocument",
    "ConsumerDocument",
    "DeadLetterDocument",
    "DelayDocument",
    "DepthsDocument",
    "FleetDocument",
    "JobDocument",
    "LaneDocument",
    "MeasureDocument",
    "ProcessDocument",
    "PublishesDocument",
    "QueueCountDocument",
    "QueueDepthDocument",
    "QueueTotalsDocument",
    "SlotDocument",
    "StatusDocument",
    "StuckDocument",
    "TotalsDocument",
]


class MeasureDocument(TypedDict):
    """A ``totals.MeasureView``."""

    counts: list[int]
    sum: float


class QueueCountDocument(TypedDict):
    """A ``QueueCount``."""

    received: int
    acked: int
    retried: int
    dead_lettered: int
    returned: int
    unknown: int
    snoozed: int
    unclaimed: int
    rejected: int
    condemned: int
    undecodable: int
    given_up: int


class SlotDocument(TypedDict):
    """A ``views.SlotView``."""

    number: int
    message_id: str
    attempt: int
    age: float
    size: int


class LaneDocument(TypedDict):
    """A ``views.HeldLane``."""

    key: str
    waiting: int
    held_for: float | None


class StuckDocument(TypedDict):
    """A ``views.StuckView``."""

    message_id: str
    age: float
    stack: list[str]


class ConsumerDocument(TypedDict):
    """A ``ConsumerView``."""

    queue: str
    path: str
    paused: bool
    narrow: bool
    concurrency: int
    slots: list[SlotDocument]
    deaf_for: float
    deaf_step: str | None
    lanes: list[LaneDocument]
    stuck: list[StuckDocument]
    retrying: int
    count: QueueCountDocument
    calls: MeasureDocument | None
    waits: MeasureDocument | None
    progress_at: float | None


class JobDocument(TypedDict):
    """A ``JobView``."""

    name: str
    holding: bool
    next_at: float | None
    running_since: float | None
    ticks: int
    failures: int


class PublishesDocument(TypedDict):
    """A ``views.PublishesView``."""

    waiting: int
    refused: int
    unknown: int
    blocked: str | None


class FleetDocument(TypedDict):
    """A ``FleetView``."""

    fleet: str
    stopping: bool
    tree: ChildDocument
    connections: Mapping[str, ChildDocument]
    consumers: list[ConsumerDocument]
    jobs: list[JobDocument]
    confirms: MeasureDocument | None
    publishes: NotRequired[PublishesDocument | None]
    """Programs without a fleet have none."""
    restarts: Mapping[str, int]


class ProcessDocument(TypedDict):
    """A ``ProcessStatus``."""

    number: int
    pid: int | None
    generation: int
    state: str
    why: str | None
    since: float
    next_at: float | None
    beat_age: float
    rss: int
    loop_lag: float
    fleet: FleetDocument | None


class QueueTotalsDocument(TypedDict):
    """A ``totals.QueueTotals``."""

    count: QueueCountDocument
    calls: MeasureDocument | None
    waits: MeasureDocument | None


class TotalsDocument(TypedDict):
    """A ``totals.Totals``."""

    queues: Mapping[str, QueueTotalsDocument]
    confirms: MeasureDocument | None
    restarts: Mapping[str, int]
    deaths: int


class StatusDocument(TypedDict):
    """A ``Status``."""

    fleet: str
    version: str
    host: str
    pid: int
    began_at: float
    at: float
    state: str
    reasons: Sequence[str]
    processes: list[ProcessDocument]
    tree: ChildDocument | None
    reloads: int
    reloading: bool
    totals: TotalsDocument


class CertificateDocument(TypedDict):
    """A ``Certificate``."""

    fleet: str
    began_at: float
    ended_at: float
    cold: bool
    balanced: bool
    deaths: int
    queues: Mapping[str, QueueCountDocument]


class DeadLetterDocument(TypedDict):
    """A ``DeadLetter``, without its headers."""

    id: str
    queue: str
    error: str
    reason: str
    attempts: int
    first_at: float | None
    dead_at: float | None
    handler: str
    stack: str
    content_type: str
    body: str
    """Its beginning, as text."""
    size: int
    """Bytes of the whole body."""


class QueueDepthDocument(TypedDict):
    """A ``QueueDepth``."""

    queue: str
    ready: int | None
    consumers: int | None
    dead_letter: str
    dead: int | None
    delays: list[float]


class DelayDocument(TypedDict):
    """A ``DelayDepth``."""

    seconds: float
    waiting: int | None


class DepthsDocument(TypedDict):
    """A ``FleetDepths``."""

    queues: list[QueueDepthDocument]
    delays: list[DelayDocument]
