"""Messages waiting in a queue, in order, with room for those that come back.

A queue without priorities has one ``Lane``; one with ``x-max-priority`` has a lane for each.
Both answer to the same methods.  Like RabbitMQ's classic queues, a lane looks for expired
messages at its head only: an expired one behind a living one waits its turn.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Protocol

import attrs

from ._message import Entry


class Ready(Protocol):
    """What a queue asks of its waiting messages."""

    count: int
    size: int
    """Bytes of bodies, which is what ``x-max-length-bytes`` counts."""

    def append(self, entry: Entry) -> None: ...
    def put_back(self, entry: Entry) -> None:
        """Return an entry to the place it had."""

    def pop(self) -> Entry:
        """Take the first entry; the caller knows that there is one."""

    def take_expired(self, now: float) -> list[Entry]:
        """Take what has expired at the head."""

    def next_expiry(self) -> float | None:
        """When the head expires; None when it doesn't."""

    def entries(self) -> list[Entry]: ...
    def clear(self) -> None: ...


@attrs.define(eq=False)
class Lane:
    """First in, first out; entries that come back go where they were."""

    count: int = 0
    size: int = 0
    _fresh: deque[Entry] = attrs.field(factory=deque)
    _returned: list[tuple[int, Entry]] = attrs.field(factory=list)
    """A heap.  All of it stands before all of ``_fresh``, whose entries were never out."""

    def append(self, entry: Entry) -> None:
        self._fresh.append(entry)
        self.count += 1
        self.size += len(entry.message.body)

    def put_back(self, entry: Entry) -> None:
        heappush(self._returned, (entry.position, entry))
        self.count += 1
        self.size += len(entry.message.body)

    def pop(self) -> Entry:
        entry = heappop(self._returned)[1] if self._returned else self._fresh.popleft()
        self.count -= 1
        self.size -= len(entry.message.body)
        return entry

    def take_expired(self, now: float) -> list[Entry]:
        taken: list[Entry] = []
        expires = self.next_expiry()
        while expires is not None and expires <= now:
            taken.append(self.pop())
            expires = self.next_expiry()
        return taken

    def next_expiry(self) -> float | None:
        if self._returned:
            return self._returned[0][1].expires
        return self._fresh[0].expires if self._fresh else None

    def entries(self) -> list[Entry]:
        return [entry for _position, entry in sorted(self._returned, key=_position)] + list(self._fresh)

    def clear(self) -> None:
        self._fresh.clear()
        self._returned.clear()
        self.count = self.size = 0


def _position(item: tuple[int, Entry]) -> int:
    return item[0]


@attrs.define(eq=False)
class PriorityLanes:
    """One lane for each priority in use, highest first; more than ``highest`` counts as ``highest``."""

    highest: int
    count: int = 0
    size: int = 0
    _lanes: dict[int, Lane] = attrs.field(factory=dict)

    def _lane(self, entry: Entry) -> Lane:
        priority = min(entry.message.priority, self.highest)
        lane = self._lanes.get(priority)
        if lane is None:
            self._lanes[priority] = lane = Lane()
            self._lanes = dict(sorted(self._lanes.items(), reverse=True))
        return lane

    def append(self, entry: Entry) -> None:
        self._lane(entry).append(entry)
        self.count += 1
        self.size += len(entry.message.body)

    def put_back(self, entry: Entry) -> None:
        self._lane(entry).put_back(entry)
        self.count += 1
        self.size += len(entry.message.body)

    def pop(self) -> Entry:
        entry = next(lane for lane in self._lanes.values() if lane.count).pop()
        self.count -= 1
        self.size -= len(entry.message.body)
        return entry

    def take_expired(self, now: float) -> list[Entry]:
        taken = [entry for lane in self._lanes.values() for entry in lane.take_expired(now)]
        self.count -= len(taken)
        self.size -= sum(len(entry.message.body) for entry in taken)
        return taken

    def next_expiry(self) -> float | None:
        expiries = [lane.next_expiry() for lane in self._lanes.values()]
        return min((expiry for expiry in expiries if expiry is not None), default=None)

    def entries(self) -> list[Entry]:
        return [entry for lane in self._lanes.values() for entry in lane.entries()]

    def clear(self) -> None:
        self._lanes.clear()
        self.count = self.size = 0
