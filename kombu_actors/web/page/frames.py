"""What the page shows at one moment, and what a browser lacks of it.  Pure.

A frame is rows by the container that they are in.  A browser that has one is told of the next only the rows that
differ, in pieces of a size that somebody says: so a stream has a rate that it never exceeds, and what it could not take
in time it gets in its newest form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypedDict

from .markup import Html

__all__ = ["Frame", "Outbox", "kept"]

Frame = Mapping[str, Mapping[str, Html]]
"""By container, its rows by their ids, in an order that those that stay keep among themselves."""
Row = tuple[str, str | None, Html]
"""Its container, the id of the row before it, and itself."""


def kept(new: Frame, old: Frame) -> Frame:
    """``new``, with the very strings of ``old`` where they are the same: a thousand rows are remembered once."""
    return {
        container: {
            id: before if (before := old.get(container, {}).get(id)) == row else row for id, row in rows.items()
        }
        for container, rows in new.items()
    }


class Piece(TypedDict):
    """What a browser is told in one event."""

    put: list[tuple[str, str, str | None, Html]]
    """Rows: the container, the row's id, that of the row before it, the row."""
    gone: list[str]
    """Ids."""


class Outbox:
    """What one browser has, and what it lacks."""

    def __init__(self, has: Frame) -> None:
        self._has = {id: (container, row) for container, rows in has.items() for id, row in rows.items()}
        self._rows: dict[str, Row] = {}
        """The newest frame."""
        self._lacks: dict[str, None] = {}
        """Ids of rows to be put, those that have waited longest first."""
        self._gone: list[str] = []

    @property
    def empty(self) -> bool:
        """Whether the browser has the newest frame."""
        return not self._lacks and not self._gone

    def offer(self, frame: Frame) -> None:
        """This is the newest frame."""
        self._rows = rows = dict(_flat(frame))
        for id in [id for id in self._has if id not in rows]:
            del self._has[id]
            self._gone.append(id)
        self._lacks = {id: None for id in self._lacks if id in rows}
        for id, (container, _, row) in rows.items():
            if self._has.get(id) != (container, row):
                self._lacks.setdefault(id)
            else:
                self._lacks.pop(id, None)

    def take(self, size: int) -> Piece | None:
        """The next piece, of about ``size`` characters: ``put`` is rows with their places, ``gone`` ids.

        None when there is nothing.
        """
        if self.empty:
            return None
        gone, self._gone = self._gone, []
        put: list[tuple[str, str, str | None, Html]] = []
        for id in list(self._lacks):
            if size <= 0:
                break
            container, after, row = self._rows[id]
            while after is not None and after not in self._has:
                after = self._rows[after][1]  # the one before it has not been sent yet
            put.append((container, id, after, row))
            size -= len(row)
            self._has[id] = (container, row)
            del self._lacks[id]
        return {"put": put, "gone": gone}


def _flat(frame: Frame) -> Iterator[tuple[str, Row]]:
    for container, rows in frame.items():
        before: str | None = None
        for id, row in rows.items():
            yield id, (container, before, row)
            before = id
