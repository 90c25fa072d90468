"""Unique ids."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

__all__ = ["uuid"]


def uuid(_uuid: Callable[[], UUID] = uuid4) -> str:
    """A new random id (UUID version 4) in its usual text form of 36 characters."""
    return str(_uuid())
