"""Whether a broker has stopped reading from publishers, and who wants to know."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

__all__ = ["Alarm", "AlarmWatcher"]

AlarmWatcher = Callable[[str | None], None]
"""Takes the broker's reason when it stops reading, and None when it reads again."""


class Alarm:
    """The state of one link.

    Several sources may ask a publisher to hold back: the broker itself, which is source 0, and each channel by its
    number.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        """Why the broker takes no publishes; None while it takes them."""
        self._reasons: dict[int, str] = {}
        self._watchers: dict[object, AlarmWatcher] = {}

    def watch(self, watcher: AlarmWatcher) -> Callable[[], None]:
        """Have ``watcher`` told of each change from now on; returns what ends that."""
        key = object()
        self._watchers[key] = watcher
        return partial(self._watchers.__delitem__, key)

    def change(self, reason: str | None, source: int = 0) -> None:
        """Set or, with None, take back what one source says; tell the watchers, if that is news."""
        self._reasons.pop(source, None)
        if reason is not None:
            self._reasons[source] = reason
        reason = self._reasons.get(0) or next(iter(self._reasons.values()), None)
        if reason != self.reason:
            self.reason = reason
            for watcher in list(self._watchers.values()):
                watcher(reason)
