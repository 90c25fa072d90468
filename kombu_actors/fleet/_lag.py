"""How late the event loop is: for whom it has something to do, a handler that computes holds it up."""

from __future__ import annotations

import time

import trio

from ..supervisors._interrupts import protected

WINDOW = 5.0
"""Seconds that "lately" is: twice as much at most."""


@protected
class Lag(trio.abc.Instrument):
    """The longest turn of trio's loop lately, from one wait for I/O to the next: exact, and free of timers."""

    def __init__(self) -> None:
        self._began = self._since = time.monotonic()
        self._before = self._now = 0.0
        """The longest turn of the window before, and of this one."""

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins."""
        self._began = time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        """It ends."""
        now = time.monotonic()
        if now - self._began > self._now:
            self._now = now - self._began
        if now - self._since > WINDOW:
            self._before = self._now if now - self._since < 2 * WINDOW else 0.0
            self._now, self._since = 0.0, now

    @property
    def seconds(self) -> float:
        """The longest one of the last five to ten seconds."""
        return max(self._before, self._now)
