"""Seconds, as programs say them, in the milliseconds that brokers count."""

from __future__ import annotations

import math
from decimal import Decimal

__all__ = ["maybe_s_to_ms", "milliseconds"]


def maybe_s_to_ms(v: float | str | None) -> int | None:
    """Seconds in milliseconds; ``None`` for ``None``."""
    return None if v is None else int(float(v) * 1000)


def milliseconds(name: str, seconds: object) -> int:
    """Whole milliseconds, rounded down.

    Raises:
        ValueError: it is no number of seconds from 0 on; the text has the argument's name.
    """
    if not isinstance(seconds, int | float | Decimal) or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{name} is a number of seconds from 0 on and can't be {seconds!r:.80}")
    return int(seconds * 1000)
