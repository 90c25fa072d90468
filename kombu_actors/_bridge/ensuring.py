"""Whether the code that runs is a call's that ``ensure`` repeats: what it asks of the runtime must then not wait."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["ensuring", "in_ensure"]

ensuring: ContextVar[bool] = ContextVar("ensuring", default=False)
"""Set by the driver of retries while it runs the function."""


def in_ensure() -> bool:
    """Whether an ensured function is running: what it calls fails with its session, instead of waiting for another."""
    return ensuring.get()
