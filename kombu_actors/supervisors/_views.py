"""A supervision tree at one moment, as frozen JSON-able data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._frozen import Record
from ._cell import Cell
from ._incarnation import Incarnation
from ._node import Node
from ._policy import HELD, ChildState
from ._spec import SupervisorSpec
from .events import describe

if TYPE_CHECKING:
    from ._documents import ChildDocument


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


def look_at(root: Node) -> ChildView:
    """A supervisor, and all that is below it, as they are now."""
    return _view(root.cell, root.state(), root, 0, None)


def _view(cell: Cell, state: ChildState, node: Node | None, attempt: int, next_at: float | None) -> ChildView:
    below = []
    for child in node.kernel.children if node is not None else ():
        own = node.cell.children[child.id] if node is not None else cell
        timer = node.timers.get(child.id) if node is not None and child.state in HELD else None
        live = own.live
        own_state = live.state() if live is not None else child.state
        nested = live if isinstance(live, Node) else None
        view = _view(own, own_state, nested, child.streak, timer.at if timer else None)
        if node is not None and child.limit is not None:
            view = view.but(budget_left=node.budget_left(child))
        below.append(view)
    failure, box, live = cell.failure, cell.mailbox, cell.live
    spec = cell.spec
    return ChildView(
        id=spec.id,
        path=cell.path,
        state=state,
        epoch=cell.epoch,
        restarts=cell.restarts,
        attempt=attempt,
        next_attempt_in=None if next_at is None else max(next_at - trio.current_time(), 0.0),
        last_failure=None if failure is None else describe(failure.error),
        degraded=live.degraded if isinstance(live, Incarnation) else None,
        mailbox=None
        if box is None
        else {"waiting": len(box), "capacity": box.capacity, "stale_replies": box.stale_replies},
        strategy=spec.strategy.value if isinstance(spec, SupervisorSpec) else None,
        budget_left=node.budget_left() if node is not None else None,
        children=tuple(below),
    )
