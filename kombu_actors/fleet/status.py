"""How a running program stands: its processes and their fleets at one moment, as frozen JSON-able data."""

from __future__ import annotations

from enum import Enum

import attrs

from .documents import ChildDocument, FleetDocument, ProcessDocument, StatusDocument
from .totals import Totals

__all__ = ["ProcessState", "ProcessStatus", "Status"]


class ProcessState(Enum):
    """What a process is doing."""

    STARTING = "starting"
    READY = "ready"
    """Every consumer consumes."""
    DEGRADED = "degraded"
    """It runs, and something of it doesn't; ``why`` says what."""
    DRAINING = "draining"
    """It takes no more messages."""
    BACKING_OFF = "backing off"
    """It ended, and is started again at ``next_at``."""
    GONE = "gone"
    """It ended, and is not started again."""


@attrs.frozen(kw_only=True)
class ProcessStatus:
    """One process in which handlers run."""

    number: int
    """Its place, from 1."""
    pid: int | None
    generation: int
    """How often this place has been filled, from 1."""
    state: ProcessState
    why: str | None = None
    """Why it isn't READY."""
    since: float
    """When that state began, seconds since 1970."""
    next_at: float | None = None
    """When it is started again, seconds since 1970."""
    beat_age: float = 0.0
    """Seconds since it was heard of last."""
    rss: int = 0
    """Memory that it keeps, in bytes."""
    loop_lag: float = 0.0
    """Seconds that its event loop has been late lately, at most."""
    fleet: FleetDocument | None = None
    """Its ``FleetView`` as last heard of, as a dict; None before the first."""

    def to_dict(self) -> ProcessDocument:
        """JSON-able."""
        return {
            "number": self.number,
            "pid": self.pid,
            "generation": self.generation,
            "state": self.state.value,
            "why": self.why,
            "since": self.since,
            "next_at": self.next_at,
            "beat_age": self.beat_age,
            "rss": self.rss,
            "loop_lag": self.loop_lag,
            "fleet": self.fleet,
        }


@attrs.frozen(kw_only=True)
class Status:
    """A program at one moment."""

    fleet: str
    """The fleet's name."""
    version: str
    """Of kombu_actors."""
    host: str
    pid: int
    """Of the process that was asked: the only one, or the parent."""
    began_at: float
    """Seconds since 1970."""
    at: float
    """The moment, seconds since 1970."""
    state: ProcessState
    """The worst of what its processes are in."""
    reasons: tuple[str, ...]
    """Why it isn't READY: a sentence each, for people."""
    processes: tuple[ProcessStatus, ...]
    tree: ChildDocument | None = None
    """The parent's own supervision tree, as ``ChildView.to_dict()``; None where there is no parent."""
    reloads: int = 0
    """How often ``reload``, or HUP, has begun to replace all processes."""
    reloading: bool = False
    """Whether that is under way."""
    totals: Totals = attrs.field(factory=Totals)
    """What all its processes have counted since it began, those included that have ended: these never go back."""

    @property
    def ready(self) -> bool:
        """Whether every consumer of every process consumes."""
        return self.state is ProcessState.READY

    def to_dict(self) -> StatusDocument:
        """JSON-able."""
        return {
            "fleet": self.fleet,
            "version": self.version,
            "host": self.host,
            "pid": self.pid,
            "began_at": self.began_at,
            "at": self.at,
            "state": self.state.value,
            "reasons": self.reasons,
            "processes": [process.to_dict() for process in self.processes],
            "tree": self.tree,
            "reloads": self.reloads,
            "reloading": self.reloading,
            "totals": self.totals.to_dict(),
        }
