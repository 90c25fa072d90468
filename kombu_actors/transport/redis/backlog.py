"""Broadcasts that wait for a consumer with room: bounded, and what is lost at the bound is told.

Pub/Sub knows no back pressure: a subscriber that stops reading is dropped by the server, with all that waited for it
there (client-output-buffer-limit pubsub: 32 MB, or 8 MB for a minute), and over the same connection come the words
that wake claimers.  So we read on, and drop the oldest: what is newest says most about how things are now.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from ..._frozen import Record
from ..._logs import get_logger
from ...protocols.redis.envelope import Envelope

__all__ = ["Backlog", "Heard", "OnDropped"]

logger = get_logger("kombu_actors.redis")

BACKLOG_MESSAGES: Final = 10_000
"""Broadcasts kept for one queue whose consumers have no room: ten seconds of a busy event stream."""
BACKLOG_BYTES: Final = 16 * 1024 * 1024
"""Bytes of them: 1.6 kB for each of so many, twice kombu's usual; one larger broadcast is kept alone."""
OVERHEAD: Final = 1024
"""Bytes that a broadcast takes beside its text, roughly."""
TELL_EVERY: Final = 1.0
"""Seconds between two reports of a queue whose consumers stay behind."""

OnDropped = Callable[[float, float, int], None]
"""Told ``(since, until, count)``: so many were dropped, heard between these times (seconds since the epoch)."""


class Heard(Record):
    """One broadcast, and when it came."""

    envelope: Envelope
    at: float

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return self.envelope.size + OVERHEAD


@attrs.define(eq=False)
class Backlog:
    """What waits for one queue's consumers, oldest first."""

    name: str
    on_dropped: OnDropped | None = None
    size: int = 0
    """Bytes of all that waits."""
    dropped: int = 0
    """How many were dropped so far."""
    _waiting: deque[Heard] = attrs.field(factory=deque)
    _untold: list[float] = attrs.field(factory=list)
    """When those were heard that were dropped since the last report: first and last."""
    _told: int = 0
    _told_at: float = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, envelope: Envelope) -> None:
        """Keep one more; where there is no room, in place of the oldest."""
        heard = Heard(envelope, time.time())
        self._waiting.append(heard)
        self.size += heard.size
        self._make_room()

    def put_back(self, heard: Heard) -> None:
        """Keep one that was out with a consumer, as the oldest."""
        self._waiting.appendleft(heard)
        self.size += heard.size
        self._make_room()

    def popleft(self) -> Heard:
        """Take the oldest."""
        heard = self._waiting.popleft()
        self.size -= heard.size
        if not self._waiting:
            self.tell()
        return heard

    def _make_room(self) -> None:
        while len(self._waiting) > BACKLOG_MESSAGES or (self.size > BACKLOG_BYTES and len(self._waiting) > 1):
            heard = self._waiting.popleft()
            self.size -= heard.size
            self.dropped += 1
            self._untold = [min([heard.at, *self._untold]), max([heard.at, *self._untold])]
            if time.time() - self._told_at >= TELL_EVERY:
                self.tell()

    def tell(self) -> None:
        """Report what was dropped since the last report."""
        if self._untold:
            (since, until), count = self._untold, self.dropped - self._told
            self._untold, self._told, self._told_at = [], self.dropped, time.time()
            logger.error(
                "%d broadcasts for queue %r were dropped, the oldest first (%d so far): its consumers are too slow;"
                " %d messages, %d bytes wait for them now",
                *(count, self.name, self.dropped, len(self._waiting), self.size),
            )
            if self.on_dropped is not None:
                self.on_dropped(since, until, count)
