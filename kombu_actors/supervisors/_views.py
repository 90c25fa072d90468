"""A supervision tree at one moment, as frozen JSON-able data."""

from __future__ import annotations

from typing import TypedDict

from .._frozen import Record
from ._policy import ChildState


class ChildDocument(TypedDict):
    """A ``ChildView`` as JSON; the names mean what they mean there."""

    id: str
    path: str
    state: str
    epoch: int
    restarts: int
    attempt: int
    next_attempt_in: float | None
    last_failure: dict[str, str] | None
    degraded: str | None
    mailbox: dict[str, int] | None
    budget_left: int | None
    strategy: str | None
    children: list[ChildDocument]


class ChildView(Record):
    """One node of a snapshot: an actor, or a supervisor with its children."""

    id: str
    path: str
    state: ChildState
    epoch: int = 0
    """Incarnations so far."""
    restarts: int = 0
    attempt: int = 0
    """Failures in a row."""
    next_attempt_in: float | None = None
    """Seconds until the next start; None when none is timed."""
    last_failure: dict[str, str] | None = None
    """``{"type": ..., "text": ...}``"""
    degraded: str | None = None
    mailbox: dict[str, int] | None = None
    """Messages waiting, capacity, and replies dropped because they came from a dead epoch."""
    budget_left: int | None = None
    """Restarts left in the window, of a supervisor or an actor with a ``limit`` of its own; None: any number."""
    strategy: str | None = None
    """Of a supervisor, as everything below."""
    children: tuple[ChildView, ...] = ()

    def to_dict(self) -> ChildDocument:
        """The tree as dicts, lists, strings and numbers."""
        return {
            "id": self.id,
            "path": self.path,
            "state": self.state.value,
            "epoch": self.epoch,
            "restarts": self.restarts,
            "attempt": self.attempt,
            "next_attempt_in": self.next_attempt_in,
            "last_failure": self.last_failure,
            "degraded": self.degraded,
            "mailbox": self.mailbox,
            "budget_left": self.budget_left,
            "strategy": self.strategy,
            "children": [child.to_dict() for child in self.children],
        }

    def find(self, path: str) -> ChildView | None:
        """The node at a path below this one; ``""`` is the node itself."""
        view = self
        for id in path.split("/") if path else ():
            below = [child for child in view.children if child.id == id]
            if not below:
                return None
            view = below[0]
        return view
