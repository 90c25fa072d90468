"""What a rendering takes besides the status: the moment, what may be done, and moments that stay the same."""

from __future__ import annotations

import attrs

__all__ = ["Look", "Steady"]

SAME_WITHIN = 0.6
"""Seconds by which a moment may differ from the last time it was computed and be the same: it comes from an age, or a
wait, of a status that may have been under way."""


@attrs.define(eq=False)
class Steady:
    """Moments by name, as first computed; so that what stays on the page is not sent again each second."""

    now: dict[str, float] = attrs.field(factory=dict)
    before: dict[str, float] = attrs.field(factory=dict)
    """Those of the last rendering: what is not asked for again is forgotten."""

    def turn(self) -> None:
        """A new rendering begins."""
        self.before, self.now = self.now, {}

    def __call__(self, name: str, moment: float) -> float:
        """The moment, or the one that it was the last time if that was about the same."""
        last = self.before.get(name)
        kept = last if last is not None and abs(last - moment) < SAME_WITHIN else moment
        self.now[name] = kept
        return kept


@attrs.frozen(kw_only=True)
class Look:
    """One rendering."""

    at: float
    """The moment of the status, seconds since 1970."""
    actions: bool
    """Whether something may be done from the page."""
    steady: Steady
