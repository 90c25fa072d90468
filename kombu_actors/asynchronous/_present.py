"""The event loop that others find."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["get_event_loop", "set_event_loop"]

_current: Hub | None = None


def get_event_loop() -> Hub | None:
    """The loop that was set last; ``None`` when there is none."""
    return _current


def set_event_loop(loop: Hub | None) -> Hub | None:
    """Make this the loop that others find; returns it."""
    global _current
    _current = loop
    return loop
