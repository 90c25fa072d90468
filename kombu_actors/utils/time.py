"""Seconds as brokers take them."""

from __future__ import annotations

__all__ = ["maybe_s_to_ms"]


def maybe_s_to_ms(v: float | str | None) -> int | None:
    """Seconds in milliseconds; ``None`` for ``None``."""
    return None if v is None else int(float(v) * 1000)
