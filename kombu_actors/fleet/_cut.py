"""The end that doesn't wait: what is to be cut short by a second signal, and how soon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from ..supervisors._interrupts import protected

LAST_WORDS = 1.0
"""Seconds that a publish under way, or the end of a resource, still gets then: half of what the whole end may take."""


@protected
class Cut:
    """The scopes of one run that end at once when it is cut short."""

    def __init__(self) -> None:
        self.made = False
        """Whether handlers are cancelled."""
        self._scopes: set[trio.CancelScope] = set()
        self._last_words: set[trio.CancelScope] = set()

    def cut(self, reason: str) -> None:
        """Cancel handlers now, and last words soon."""
        self.made = True
        for scope in self._scopes:
            scope.cancel(reason=reason)
        at = trio.current_time() + LAST_WORDS
        for scope in self._last_words:
            scope.deadline = min(scope.deadline, at)

    @contextmanager
    def cancelled_by_it(self, scope: trio.CancelScope) -> Iterator[None]:
        """Have that scope cancelled by the cut; at once when it has been made."""
        self._scopes.add(scope)
        if self.made:
            scope.cancel(reason="the fleet's end was cut short")
        try:
            yield
        finally:
            self._scopes.discard(scope)

    @contextmanager
    def last_words(self, seconds: float) -> Iterator[trio.CancelScope]:
        """Go on for so long after a cancellation, but only a moment after the cut."""
        with trio.move_on_after(min(seconds, LAST_WORDS) if self.made else seconds, shield=True) as scope:
            self._last_words.add(scope)
            try:
                yield scope
            finally:
                self._last_words.discard(scope)
