"""What became of a publish, for the thread that has sent it by itself and waits for its outcome."""

from __future__ import annotations

from collections.abc import Callable

from .._values.model import Outcome, Returned
from ..protocols.ledger import Entry

__all__ = ["Receipt"]


class Receipt:
    """Its ``note`` is the entry's watcher until ``Publisher.wait_outcome`` is: the outcome may come before that."""

    __slots__ = ("on_outcome", "outcome")

    def __init__(self) -> None:
        self.outcome: tuple[Outcome, Returned | BaseException | None] | None = None
        """How it ended, and what the broker said; None while it is under way."""
        self.on_outcome: Callable[[], object] | None = None
        """Called once it is known, in the runtime's thread.  Whoever sets it looks for the outcome afterwards."""

    def note(self, entry: Entry, result: Outcome, detail: Returned | BaseException | None) -> None:
        """It has its outcome.  Runtime thread."""
        entry.watcher = None
        self.outcome = (result, detail)
        if self.on_outcome is not None:
            self.on_outcome()

    def leave(self, entry: Entry) -> None:
        """Nobody comes: who would have was interrupted.  From now on it is a publish that nobody waits for."""
        if entry.watcher == self.note:
            entry.watcher = None
