"""Deadlines of publishes: one timer for all that wait for their confirm.

A cancel scope per publish costs a third of the publish.  Nearly all share one timeout, so their
deadlines come in the order of their publishing, and a queue and one sleeping task do; one that comes out of
order is put into its place.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Callable
from operator import itemgetter

import trio

from ..protocols.ledger import Entry
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected

Expire = Callable[[Entry], None]
_when = itemgetter(0)


@protected
class Deadlines:
    """The publishes that somebody waits for, the earliest deadline first.

    Bounded by the publish windows: a settled entry at the head is dropped when the next is added.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[float, Entry, Expire]] = deque()
        self._sleeping_until = math.inf
        self._earlier = trio.Event()

    def add(self, at: float, entry: Entry, expire: Expire) -> None:
        """Call ``expire(entry)`` at that time unless the entry is settled then."""
        queue = self._queue
        while queue and queue[0][1].watcher is None:
            queue.popleft()
        if queue and at < queue[-1][0]:
            insort(queue, (at, entry, expire), key=_when)
        else:
            queue.append((at, entry, expire))
        if at < self._sleeping_until:
            self._sleeping_until = -math.inf
            self._earlier.set()

    async def serve(self, ctx: ActorContext) -> None:
        """Let deadlines pass until told to stop."""
        ctx.ready()
        with ctx.until_stopping():
            await self._watch()

    async def _watch(self) -> None:
        queue = self._queue
        while True:
            while queue and (queue[0][1].watcher is None or queue[0][0] <= trio.current_time()):
                _, entry, expire = queue.popleft()
                if entry.watcher is not None:
                    expire(entry)
            # The head may be settled and an earlier one come behind it: not everybody has the same timeout.
            self._sleeping_until = queue[0][0] if queue else math.inf
            self._earlier = trio.Event()
            with trio.move_on_at(self._sleeping_until):
                await self._earlier.wait()
