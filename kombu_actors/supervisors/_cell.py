"""The lasting identity of a child: what survives its incarnations and its supervisor's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lots import Changes
from ._mailbox import Mailbox
from ._outcome import Failure, Outcome, Stopped
from ._policy import ChildState
from ._spec import ChildSpec, SupervisorSpec

if TYPE_CHECKING:
    from ._incarnation import Incarnation
    from ._node import Node
    from ._tree import Tree


class Cell:
    """One place in the tree.  Its supervisor's kernel owns the state; the cell owns what must outlive that."""

    __slots__ = (
        "changed",
        "children",
        "closed",
        "epoch",
        "epoch_floor",
        "failure",
        "live",
        "mailbox",
        "path",
        "previous",
        "restarts",
        "spec",
    )

    def __init__(self, tree: Tree, path: str, spec: ChildSpec | SupervisorSpec, epoch: int) -> None:
        self.path = path
        self.spec = spec
        self.epoch = epoch
        self.epoch_floor = epoch
        """The highest epoch among whoever was forgotten here and below: later namesakes continue from it."""
        self.restarts = 0
        self.live: Incarnation | Node | None = None
        self.previous: Outcome | None = None
        self.failure: Failure | None = None
        self.mailbox: Mailbox | None = None
        self.children: dict[str, Cell] = {}
        self.closed = False
        self.changed = Changes()
        if isinstance(spec, ChildSpec) and spec.mailbox is not None:
            self.mailbox = Mailbox(path, spec.mailbox, lambda count: tree.reply_dropped(self, count))

    def is_ready(self) -> bool:
        """Whether an incarnation serves and is to go on serving."""
        return self.live is not None and self.live.state() in (ChildState.READY, ChildState.DEGRADED)

    def adopt(self, tree: Tree, id: str, spec: ChildSpec | SupervisorSpec) -> Cell:
        """The cell of a child about to start: its old one, or a new one if that is gone for good."""
        cell = self.children.get(id)
        if cell is None or cell.closed or type(cell.spec) is not type(spec) or _capacity(cell.spec) != _capacity(spec):
            epoch = max(self.epoch_floor, cell.highest_epoch() if cell is not None else 0)
            if cell is not None:
                cell.close(tree, Stopped("replaced by another specification"))
            path = f"{self.path}/{id}" if self.path else id
            cell = self.children[id] = Cell(tree, path, spec, epoch)
            tree.arrived(path)
        cell.spec = spec
        return cell

    def forget(self, id: str) -> None:
        """Drop the record of a child that is gone for good."""
        cell = self.children.pop(id, None)
        if cell is not None:
            self.epoch_floor = max(self.epoch_floor, cell.highest_epoch())

    def highest_epoch(self) -> int:
        """The highest epoch here and below, of the living and the forgotten."""
        return max(self.epoch, self.epoch_floor, *[child.highest_epoch() for child in self.children.values()])

    def close(self, tree: Tree, outcome: Outcome) -> None:
        """The child is gone for good: tell whoever waits, then its owner, once; descendants first."""
        if self.closed:
            return
        self.closed = True
        for child in reversed(tuple(self.children.values())):
            child.close(tree, child.previous or Stopped("its supervisor is gone"))
        self.previous = outcome
        if self.mailbox is not None:
            self.mailbox.close()
        self.changed.unpark_all()
        tree.went_down(self, outcome)
        if self.spec.on_exit is not None:
            tree.call_on_exit(self.path, self.spec.on_exit, outcome)


def _capacity(spec: ChildSpec | SupervisorSpec) -> int | None:
    return spec.mailbox if isinstance(spec, ChildSpec) else None
