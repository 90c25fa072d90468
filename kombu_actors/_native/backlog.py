"""What the subscriptions of one native broker have taken in and not handed out yet: bounded, by not reading on."""

from __future__ import annotations

from collections.abc import Callable

from ..supervisors._interrupts import protected

BUFFER_MAX = 64 * 1024 * 1024
"""Bytes: as much as the largest body by default, so that one always fits."""
EACH = 1024
"""Bytes that a message counts for besides its body: about what its properties and objects take.  So the bound in bytes
is one in messages, too."""
RESUME_AT = 0.75
"""The part of the bound at which reading goes on: not at each message, and soon, for siblings wait as well."""


@protected
class Backlog:
    """Counts for all subscriptions of a connection together: they share the one stream that can be paused."""

    def __init__(self, limit: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.size = 0
        """Bytes buffered, ``EACH`` included."""
        self._limit = limit
        self._pause = pause
        self._resume = resume
        self.paused = False
        """Whether nothing is read on at present."""

    def grew(self, messages: int, body_bytes: int) -> None:
        """A batch came in."""
        self.size += body_bytes + messages * EACH
        if self.size > self._limit:
            # Each time: the session, and with it who reads, may be another one.
            self.paused = True
            self._pause()

    def shrank(self, messages: int, body_bytes: int) -> None:
        """Messages were handed out, or dropped."""
        self.size -= body_bytes + messages * EACH
        if self.paused and self.size <= self._limit * RESUME_AT:
            self.paused = False
            self._resume()
