"""How long to wait before the next attempt: pure functions of the streak, the time served and a draw."""

from __future__ import annotations

import math
from typing import Protocol

from .._frozen import Frozen
from ._errors import SpecError
from ._policy import check_seconds


class Delays(Protocol):
    """What a supervisor needs of a backoff; ``Backoff`` and ``LinearBackoff`` are two."""

    def delay(self, streak: int, u: float) -> float:
        """Seconds before the attempt that follows ``streak`` earlier retries; ``u`` in [0, 1)."""

    def after_failure(self, streak: int, served: float | None, u: float) -> tuple[float, int]:
        """Seconds before the next attempt, and the streak from then on.

        ``served`` is how long the child that failed had been READY without a break; None: it never was.
        """


def check_delays(where: str, backoff: object) -> None:
    """Raise ``SpecError`` unless delays can be had of it."""
    if not callable(getattr(backoff, "delay", None)) or not callable(getattr(backoff, "after_failure", None)):
        raise SpecError(f"{where}: backoff must be a Backoff, a LinearBackoff or their like (Delays), not {backoff!r}")


def _check_jitter(jitter: object) -> None:
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0.0 <= jitter <= 1.0:
        raise SpecError(f"jitter is the share taken off a delay and must be within 0 and 1, not {jitter!r}")


class Backoff(Frozen):
    """Exponential delays: ``first``, ``base``, ``base * factor``, ... up to ``maximum`` seconds.

    The first retry of a streak is free by default, so that a single blip costs nothing.
    Jitter is *taken off* (``delay * (1 - jitter * u)``), so maximum means maximum.  The
    streak ends after ``reset_after`` seconds of continuous READY, counted from READY and
    not from the start: else attempts that fail slowly would never be slowed down.

    A child that served for ``earned_after`` seconds has earned a retry after ``earned`` seconds at most, and
    its failure is not one more in a row: a link that flaps is taken up again and again at that pace,
    while one that fails as soon as it is READY is left alone for longer and longer.  By default only
    the end of the streak is earned.
    """

    first: float = 0.0
    base: float = 0.5
    factor: float = 2.0
    maximum: float = 30.0
    jitter: float = 0.5
    reset_after: float = 30.0
    earned: float = 0.0
    earned_after: float = math.inf

    def settle(self) -> None:
        """Raise ``SpecError`` for delays that can't be."""
        for name in ("first", "base", "maximum", "reset_after", "earned", "earned_after"):
            check_seconds(name, getattr(self, name))
        if not self.factor >= 1.0:
            raise SpecError(f"factor must be at least 1, or delays would shrink; got {self.factor!r}")
        _check_jitter(self.jitter)

    def delay(self, streak: int, u: float) -> float:
        """Seconds to wait before the retry number ``streak`` (from 0) of a streak."""
        # 64 doublings exceed any maximum; the bound keeps float ** int from overflowing.
        nominal = self.base * self.factor ** min(streak - 1, 64) if streak > 0 else self.first
        return min(nominal, self.maximum) * (1.0 - self.jitter * u)

    def after_failure(self, streak: int, served: float | None, u: float) -> tuple[float, int]:
        """See ``Delays``."""
        if served is None or served < min(self.earned_after, self.reset_after):
            return self.delay(streak, u), streak + 1
        if served >= self.reset_after:
            return self.delay(0, u), 1
        return min(self.delay(streak, u), self.earned * (1.0 - self.jitter * u)), max(streak, 1)


class LinearBackoff(Frozen):
    """Evenly growing delays: ``start``, ``start + step``, ... up to ``maximum`` seconds; no jitter by default."""

    start: float
    step: float
    maximum: float
    jitter: float = 0.0
    reset_after: float = 30.0

    def settle(self) -> None:
        """Raise ``SpecError`` for delays that can't be."""
        for name in ("start", "step", "maximum", "reset_after"):
            check_seconds(name, getattr(self, name))
        _check_jitter(self.jitter)

    def delay(self, streak: int, u: float) -> float:
        """Seconds to wait before the retry number ``streak`` (from 0) of a streak."""
        return min(self.start + max(streak, 0) * self.step, self.maximum) * (1.0 - self.jitter * u)

    def after_failure(self, streak: int, served: float | None, u: float) -> tuple[float, int]:
        """See ``Delays``."""
        if served is not None and served >= self.reset_after:
            streak = 0
        return self.delay(streak, u), streak + 1
