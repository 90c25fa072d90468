"""Death watch: an actor is told in its mailbox when another one's incarnation ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._frozen import Frozen
from ._interrupts import protected
from ._mailbox import Envelope, Mailbox

if TYPE_CHECKING:
    from ._cell import Cell
    from ._outcome import Outcome
    from ._tree import Tree


class Down(Frozen):
    """The message that a monitor puts into its owner's mailbox: an incarnation has ended, and how."""

    path: str
    epoch: int
    """Which incarnation it was; 0 for an actor that was never started."""
    outcome: Outcome
    gone: bool
    """Whether it is gone for good; else its supervisor starts it again."""
    missed: int = 0
    """How many earlier ends this one stands for, since they had not been read when it came."""


@protected
class Monitor:
    """A watch over one path, made by ``ctx.monitor``; ends with ``cancel`` and with the incarnation that made it.

    It holds at most one unread message, beyond the mailbox's capacity: a watch never blocks and never piles up.
    """

    def __init__(self, tree: Tree, path: str, mailbox: Mailbox) -> None:
        self.path = path
        self._tree = tree
        self._mailbox = mailbox
        self._last: Envelope | None = None
        tree.monitors.setdefault(path, {})[self] = None

    def __repr__(self) -> str:
        return f"<Monitor of {self.path!r}>"

    def cancel(self) -> None:
        """Watch no more; what was not read yet is taken back.  Harmless when repeated."""
        watching = self._tree.monitors.get(self.path, {})
        watching.pop(self, None)
        if not watching:
            self._tree.monitors.pop(self.path, None)
        if self._last is not None:
            self._mailbox.withdraw(self._last)

    def tell(self, cell: Cell, outcome: Outcome) -> None:
        """Called by the tree when an incarnation has ended."""
        unread = self._last if self._last is not None and self._last.waits else None
        missed = 0 if unread is None else unread.message.missed + 1
        down = Down(path=self.path, epoch=cell.epoch, outcome=outcome, gone=cell.closed, missed=missed)
        if unread is not None:
            unread.message = down
        else:
            self._last = Envelope(down, wants_answer=False)
            self._mailbox.squeeze_in(self._last)
