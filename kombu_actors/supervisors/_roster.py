"""The children of one supervisor in start order, and who of them is in which condition.

A decision concerns the first or the last child of a condition ("the eldest that waits for its start", "the youngest
that must go"), so each condition keeps its places sorted: no decision looks at all children, of whom there may be
thousands.  The conditions follow from the records alone; nothing else is remembered.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from ._policy import FINAL, HELD, LIVE, ChildState, Strategy
from ._records import Child


class Places(list[int]):
    """A sorted set of places in the start order.

    A list: joining at the end costs nothing, leaving it moves what follows, which is some microseconds in ten
    thousand, and less than any tree would cost.
    """

    __slots__ = ()

    @property
    def first(self) -> int:
        """The eldest's place; there must be one."""
        return self[0]

    @property
    def last(self) -> int:
        """The youngest's place; there must be one."""
        return self[-1]

    def reach_below(self, place: int) -> bool:
        """Whether anyone is elder than that place."""
        return len(self) > 0 and self[0] < place

    def reach_above(self, place: int) -> bool:
        """Whether anyone is younger than that place."""
        return len(self) > 0 and self[-1] > place

    def add(self, place: int) -> None:
        if not self or self[-1] < place:
            self.append(place)
        else:
            insort(self, place)

    def remove(self, place: int) -> None:
        del self[bisect_left(self, place)]


class Roster:
    """Who is there.  Records change in ``put`` and ``drop`` only."""

    __slots__ = (
        "_alone",
        "_at",
        "_conditions",
        "_next",
        "_noted",
        "_place",
        "alive",
        "doomed",
        "free",
        "going",
        "queued",
        "restless",
        "significant",
        "unarmed",
        "unproven",
    )

    def __init__(self, strategy: Strategy, children: Iterable[Child]) -> None:
        self._alone = strategy is Strategy.ONE_FOR_ONE
        self._at: dict[int, Child] = {}
        self._place: dict[str, int] = {}
        self._noted: dict[int, int] = {}
        self._next = 0
        self.queued = Places()
        """To be started when no elder holds them up."""
        self.free = Places()
        """To be started now."""
        self.unproven = Places()
        """Not READY yet since their (group's) start began, and not done: younger siblings wait for them."""
        self.going = Places()
        """Down for a delay, or on the way down, where that concerns siblings."""
        self.doomed = Places()
        """On the way down, or to be sent on it.  Not those that are stuck: waiting longer for them helps nobody."""
        self.alive = Places()
        """Who has a task, or a nested supervisor."""
        self.unarmed = Places()
        """Whose delay has not begun."""
        self.significant = Places()
        """Significant ones that are not done."""
        self.restless = Places()
        """Who neither serves nor is done."""
        self._conditions = (
            self.queued,
            self.free,
            self.unproven,
            self.going,
            self.doomed,
            self.alive,
            self.unarmed,
            self.significant,
            self.restless,
        )
        for child in children:
            self.put(child)

    def __iter__(self) -> Iterator[Child]:
        return iter(self._at.values())

    def __len__(self) -> int:
        return len(self._at)

    def get(self, id: str) -> Child | None:
        place = self._place.get(id)
        return None if place is None else self._at[place]

    def place(self, id: str) -> int | None:
        return self._place.get(id)

    def __getitem__(self, place: int) -> Child:
        return self._at[place]

    def places(self, *, above: int = -1) -> list[int]:
        """All places younger than one, eldest first."""
        return [place for place in self._at if place > above]

    def put(self, child: Child) -> None:
        """Enter a child at the end, or a new record of one that is here, at its place."""
        place = self._place.get(child.id)
        if place is None:
            place = self._place[child.id] = self._next
            self._next += 1
        self._at[place] = child
        self._note(place, self._bits(child))

    def drop(self, place: int) -> None:
        """Forget a child."""
        self._note(place, 0)
        del self._noted[place]
        del self._place[self._at.pop(place).id]

    def conditions(self) -> list[list[str]]:
        """Who is in each condition."""
        return [[self._at[place].id for place in places] for places in self._conditions]

    def ordered(self, child: Child) -> bool:
        """Whether stops of this child wait for its siblings'."""
        return not self._alone or child.static

    def _note(self, place: int, bits: int) -> None:
        changed = bits ^ self._noted.get(place, 0)
        self._noted[place] = bits
        for places in self._conditions:
            if not changed:
                return
            if changed & 1:
                if bits & 1:
                    places.add(place)
                else:
                    places.remove(place)
            changed >>= 1
            bits >>= 1

    def _bits(self, child: Child) -> int:
        """The conditions a child is in, in the order of ``_conditions``."""
        state, after = child.state, child.after
        live = state in LIVE
        done = state in FINAL
        new = state is ChildState.NEW
        free = self._alone and (child.proven or not child.static)
        held = state in HELD
        return (
            (new and not free)
            | (new and free) << 1
            | (not child.proven and not done) << 2
            | (not self._alone and (held or (live and after is not None))) << 3
            | (live and after is not None and state is not ChildState.STUCK) << 4
            | live << 5
            | (held and not child.timer) << 6
            | (child.significant and not done) << 7
            | (not done and (state is not ChildState.READY or after is not None)) << 8
        )
