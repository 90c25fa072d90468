"""From a running tree to a view of it."""

from __future__ import annotations

import trio

from ._cell import Cell
from ._incarnation import Incarnation
from ._node import Node
from ._policy import HELD, ChildState
from ._spec import SupervisorSpec
from ._views import ChildView
from .events import describe

__all__ = ["look_at"]


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
