"""Figures as people read them.  Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from .markup import REMEMBERED, Html, h

__all__ = ["NOTHING", "age", "at", "cause", "clock", "countdown", "duration", "number", "rate", "size", "times"]

_LAST_STRAW = re.compile(r"; the last straw: child .+? failed with (\w+): (.*)", re.DOTALL)

NOTHING = "—"
"""Where there is no figure."""


def duration(seconds: float) -> str:
    """A length of time: two figures of it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "0 ms" if seconds <= 0 else "< 1 ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, name, below, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {part}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def clock(wall: float) -> str:
    """A moment, as the time of day in UTC: the page's own script makes it the reader's."""
    return _stamp(int(wall))[11:19]


@lru_cache(REMEMBERED)
def _stamp(wall: int) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(kind: str, wall: float, shown: str) -> Html:
    return h("time", shown, datetime=_stamp(int(wall)), **{f"data_{kind}": f"{wall:.1f}"})


def age(wall: float) -> Html:
    """How long ago that was: counted in the browser, so that a row stays the same while time goes by."""
    return _moment("since", wall, f"since {clock(wall)} UTC")


def countdown(wall: float) -> Html:
    """In how long that will be, likewise."""
    return _moment("until", wall, f"at {clock(wall)} UTC")


def at(wall: float) -> Html:
    """When that was, in the reader's own time."""
    return _moment("at", wall, f"{clock(wall)} UTC")


def cause(kind: str, said: str) -> tuple[str, str]:
    """The class and text of an error: of a supervisor's that gave up, those of the failure that was too much."""
    found = _LAST_STRAW.search(said) if kind == "RestartLimitExceeded" else None
    return (kind, said) if found is None else cause(found[1], found[2])


def number(count: float) -> str:
    """A count, with thin spaces between thousands."""
    return f"{count:,.0f}".replace(",", "\u202f")


def times(count: int) -> str:
    """How often."""
    return f"\u00d7 {number(count)}"


def rate(per_second: float) -> str:
    """Messages per second, two figures; none is a dash."""
    if per_second <= 0:
        return NOTHING
    if per_second < 9.95:
        return f"{per_second:.1f}" if per_second >= 0.05 else "< 0.1"
    return number(per_second)


def size(count: int) -> str:
    """Bytes, in whole MB from one on: what moves by less says nothing."""
    if count < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{number(count / 1_000_000)} MB" if count < 10_000_000_000 else f"{count / 1e9:.1f} GB"
