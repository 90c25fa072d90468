"""The program's ``listener``, called in its loop."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from .._bridge.bundle import Bundle
from ..supervisors import Event

__all__ = ["LoopListener"]

logger = logging.getLogger("kombu_actors.aio")
HELD = 1024
"""Events that wait for a loop that is busy; then the oldest are dropped."""


class LoopListener:
    """Takes events in the runtime and tells them in the loop, in order."""

    def __init__(self, listener: Callable[[Event], None]) -> None:
        self.to_loop: Bundle | None = None
        """Set before the first event comes."""
        self._listener: Callable[[Event], None] | None = listener
        self._held: deque[Event] = deque(maxlen=HELD)
        self._told = False

    def hear(self, event: Event) -> None:
        """Take one.  Runtime."""
        self._held.append(event)
        if not self._told and self.to_loop is not None:
            self._told = True
            self.to_loop.post(self._tell)

    def _tell(self) -> None:
        self._told = False
        while self._held:
            event = self._held.popleft()
            if self._listener is None:
                continue
            try:
                self._listener(event)
            except Exception:
                self._listener = None
                logger.exception("a listener failed on %r and was removed", event)
