"""Doing something at most so often."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

__all__ = ["TokenBucket"]


class TokenBucket:
    """Tokens that come at ``fill_rate`` per second, of which at most ``capacity`` are kept; it starts full.

    What waits for its tokens can be kept in it, oldest first; its user bounds that.  Not for several threads at a time.
    """

    def __init__(self, fill_rate: float, capacity: float = 1) -> None:
        self.fill_rate = float(fill_rate)
        self.capacity = float(capacity)
        self.timestamp = monotonic()
        """When the tokens were last counted."""
        self._tokens = self.capacity
        self.contents: deque[Any] = deque()
        """What waits."""

    def add(self, item: object) -> None:
        """Have something wait."""
        self.contents.append(item)

    def pop(self) -> Any:
        """Take out what has waited longest; ``IndexError`` when nothing waits."""
        return self.contents.popleft()

    def clear_pending(self) -> None:
        """Forget all that waits."""
        self.contents.clear()

    def can_consume(self, tokens: float = 1) -> bool:
        """Take that many tokens; takes none and returns False when there are fewer."""
        enough = tokens <= self._count()
        if enough:
            self._tokens -= tokens
        return enough

    def expected_time(self, tokens: float = 1) -> float:
        """Seconds until there are that many tokens."""
        return max(tokens - self._count(), 0) / self.fill_rate

    def _count(self) -> float:
        now = monotonic()
        self._tokens = min(self.capacity, self._tokens + self.fill_rate * (now - self.timestamp))
        self.timestamp = now
        return self._tokens
