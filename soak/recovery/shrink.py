"""A shorter program that still fails: steps are left out, many at a time first, then one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .steps import Step

__all__ = ["shrink"]

RUNS = 150
"""Programs tried at most; with the few seconds that a failing one takes, some ten minutes."""
TRIES = 2
"""A program that fails by chance of timing is given that many chances to fail."""


def shrink(steps: Sequence[Step], kind: str, fails: Callable[[Sequence[Step]], str | None]) -> list[Step]:
    """The shortest program found that fails in this way; ``fails`` says how one does, None when it passes."""
    best, runs = list(steps), 0
    size = len(best) // 2
    while size:
        start = 0
        while start < len(best) and runs < RUNS:
            shorter = best[:start] + best[start + size :]
            runs += TRIES
            if any(fails(shorter) == kind for _ in range(TRIES)):
                best = shorter
            else:
                start += size
        size //= 2
    return best
