"""What became of a publish, for the thread that has sent it by itself and comes to wait for its outcome."""

from __future__ import annotations

import attrs

from .._values.model import Outcome, Returned
from ..protocols.ledger import Entry

__all__ = ["Receipt"]


@attrs.define(eq=False)
class Receipt:
    """Its ``note`` is the entry's watcher until ``Publisher.wait_outcome`` is: the outcome may come before that."""

    outcome: tuple[Outcome, Returned | BaseException | None] | None = None
    """How it ended, and what the broker said; None while it is under way."""

    def note(self, entry: Entry, result: Outcome, detail: Returned | BaseException | None) -> None:
        """It has its outcome.  Runtime thread."""
        entry.watcher = None
        self.outcome = (result, detail)

    def leave(self, entry: Entry) -> None:
        """Nobody comes: who would have was interrupted.  From now on it is a publish that nobody waits for."""
        if entry.watcher == self.note:
            entry.watcher = None
