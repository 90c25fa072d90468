"""The children of one supervisor in start order, and who of them is in which condition.

A decision concerns the first or the last child of a condition ("the eldest that waits for its start", "the youngest
that must go"), so each condition keeps its places sorted: no decision looks at all children, of whom there may be
thousands.  The conditions follow from the records alone; nothing else is remembered.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final

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


NOBODY: Final = Places()
"""What every empty condition shares; never changed.  Most are empty, and there may be a thousand supervisors."""
CONDITIONS: Final = (
    "queued",
    "free",
    "unproven",
    "going",
    "doomed",
    "alive",
    "unarmed",
    "significant",
    "restless",
)
"""In the order of their bits."""
_QUEUED, _FREE, _UNPROVEN, _GOING, _DOOMED, _ALIVE, _UNARMED, _SIGNIFICANT, _RESTLESS = (
    1 << at for at in range(len(CONDITIONS))
)
_NEW, _READY, _STUCK = ChildState.NEW, ChildState.READY, ChildState.STUCK  # to find them in their enum takes its time


class Roster:
    """Who is there.  Records change in ``put`` and ``drop`` only."""

    __slots__ = ("_alone", "_at", "_next", "_place", "_strategy", *CONDITIONS)

    alive: Places
    """Who has a task, or a nested supervisor."""
    doomed: Places
    """On the way down, or to be sent on it.  Not those that are stuck: waiting longer for them helps nobody."""
    free: Places
    """To be started now."""
    going: Places
    """Down for a delay, or on the way down, where that concerns siblings."""
    queued: Places
    """To be started when no elder holds them up."""
    restless: Places
    """Who neither serves nor is done."""
    significant: Places
    """Significant ones that are not done."""
    unarmed: Places
    """Whose delay has not begun."""
    unproven: Places
    """Not READY yet since their (group's) start began, and not done: younger siblings wait for them."""

    def __init__(self, strategy: Strategy, children: Iterable[Child]) -> None:
        self._strategy = strategy
        self._alone = strategy is Strategy.ONE_FOR_ONE
        self._at: dict[int, Child] = {}
        self._place: dict[str, int] = {}
        self._next = 0
        self.queued = self.free = self.unproven = self.going = self.doomed = NOBODY
        self.alive = self.unarmed = self.significant = self.restless = NOBODY
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
        before = 0
        if place is None:
            place = self._place[child.id] = self._next
            self._next += 1
        else:
            before = self._bits(self._at[place])
        self._at[place] = child
        self._note(place, before, self._bits(child))

    def drop(self, place: int) -> None:
        """Forget a child."""
        child = self._at.pop(place)
        self._note(place, self._bits(child), 0)
        del self._place[child.id]

    def conditions(self) -> list[list[str]]:
        """Who is in each condition."""
        return [[self._at[place].id for place in getattr(self, name)] for name in CONDITIONS]

    def live(self, id: str, epoch: int) -> Child | None:
        """A child whose incarnation of that epoch has not ended."""
        child = self.get(id)
        return child if child is not None and child.epoch == epoch and child.state in LIVE else None

    def group_going(self, place: int) -> bool:
        """Whether a start has to wait for siblings that go down, or are down for a delay."""
        if self._strategy is Strategy.ONE_FOR_ALL:
            return bool(self.going)
        return self.going.reach_below(place)

    def group_alive(self, root: int) -> bool:
        """Whether a delay has to wait for siblings that are not down yet."""
        match self._strategy:
            case Strategy.ONE_FOR_ONE:
                return False
            case Strategy.REST_FOR_ONE:
                return self.alive.reach_above(root)
            case Strategy.ONE_FOR_ALL:
                return bool(self.alive)

    def ordered(self, child: Child) -> bool:
        """Whether stops of this child wait for its siblings'."""
        return not self._alone or child.static

    def _note(self, place: int, before: int, bits: int) -> None:
        changed = bits ^ before
        while changed:
            at = changed.bit_length() - 1
            changed ^= 1 << at
            name = CONDITIONS[at]
            places: Places = getattr(self, name)
            if not bits >> at & 1:
                places.remove(place)
                if not places:
                    setattr(self, name, NOBODY)
            elif places:
                places.add(place)
            else:
                setattr(self, name, Places((place,)))

    def _bits(self, child: Child) -> int:
        """The conditions a child is in."""
        state, after = child.state, child.after
        if state in FINAL:
            return 0
        bits = 0 if state is _READY and after is None else _RESTLESS
        if not child.proven:
            bits |= _UNPROVEN
        if child.significant:
            bits |= _SIGNIFICANT
        if state is _NEW:
            return bits | (_FREE if self._alone and (child.proven or not child.static) else _QUEUED)
        if state in HELD:
            return bits | (0 if self._alone else _GOING) | (0 if child.timer else _UNARMED)
        if after is None:
            return bits | _ALIVE
        return bits | _ALIVE | (0 if self._alone else _GOING) | (0 if state is _STUCK else _DOOMED)
