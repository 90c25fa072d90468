"""When a worker process is to be replaced by a new one, for its age.  Pure."""

from __future__ import annotations

from typing import TypeVar

import attrs

from ..errors import FleetMistake

__all__ = ["Recycling"]

Limit = TypeVar("Limit", int | None, float | None)
SPREAD = 0.2
"""By how much of a limit processes differ at most: those that began together would all be due together."""


def _positive(_: object, attribute: attrs.Attribute[Limit], value: Limit) -> None:
    if value is not None and not value > 0:
        raise FleetMistake(f"{attribute.name} must be above 0, or None for no limit, not {value!r}")


@attrs.frozen(kw_only=True)
class Recycling:
    """Limits for one worker process; past any of them it is replaced, in order: the new one is READY first.

    Each process draws its own limits of messages and of age, up to a fifth below these.
    """

    max_messages: int | None = attrs.field(default=None, validator=_positive)
    """Messages handled."""
    max_memory: int | None = attrs.field(default=None, validator=_positive)
    """Resident bytes."""
    max_age: float | None = attrs.field(default=None, validator=_positive)
    """Seconds."""

    def due(self, *, messages: int, memory: int, age: float, draw: float) -> str | None:
        """Why it is due; None: it isn't.  ``draw`` in [0, 1) is the process's own."""
        part = 1.0 - SPREAD * draw
        if self.max_messages is not None and messages >= self.max_messages * part:
            return f"it has handled {messages} messages"
        if self.max_memory is not None and memory > self.max_memory:
            return f"it keeps {memory / 2**20:.0f} MiB of memory"
        if self.max_age is not None and age >= self.max_age * part:
            return f"it is {age:.0f} s old"
        return None
