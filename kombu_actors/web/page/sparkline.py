"""An hour of a figure as a small picture.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .markup import Html, h

__all__ = ["line", "sparkline"]

WIDTH, HEIGHT = 120, 24


def line(values: Sequence[float], width: int, height: int, top: float = 0.0) -> tuple[str, float]:
    """The ``d`` of a path through the values, with gaps where nothing is known, and the highest of them, or ``top``."""
    known = [value for value in values if not math.isnan(value)]
    top = max([top, *known])
    if not known:
        return "", top
    step = width / max(len(values) - 1, 1)
    parts, pen = [], "M"
    for index, value in enumerate(values):
        if math.isnan(value):
            pen = "M"
            continue
        y = height - 1 - (value / top if top > 0 else 0.0) * (height - 2)
        parts.append(f"{pen}{index * step:.0f} {y:.0f}")
        pen = "L"
    if parts and parts[-1].startswith("M"):
        parts.append("h1")  # a point by itself
    return "".join(parts), top


def sparkline(values: Sequence[float], label: str) -> Html | None:
    """The picture of an hour's values, oldest first; ``label`` says it in words.

    None when nothing is known, or all of it is 0.
    """
    d, top = line(values, WIDTH, HEIGHT)
    if not d or top <= 0:
        return None
    path = h("path", d=d)
    return h(
        "svg",
        path,
        class_="spark",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )
