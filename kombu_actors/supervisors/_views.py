"""A supervision tree at one moment, as frozen JSON-able data."""

from __future__ import annotations

from typing import Any, NamedTuple

from ._policy import ChildState


class ChildView(NamedTuple):
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

    def to_dict(self) -> dict[str, Any]:
        """The tree as dicts, lists, strings and numbers."""
        record = self._asdict()
        record["state"] = self.state.value
        record["children"] = [child.to_dict() for child in self.children]
        return record

    def find(self, path: str) -> ChildView | None:
        """The node at a path below this one; ``""`` is the node itself."""
        view = self
        for id in path.split("/") if path else ():
            below = [child for child in view.children if child.id == id]
            if not below:
                return None
            view = below[0]
        return view
