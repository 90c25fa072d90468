"""Where random draws come from: the system's entropy, or, in a simulation, one seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random

__all__ = ["new_dice", "seeded"]

_seeds: ContextVar[Random | None] = ContextVar("_seeds", default=None)


def new_dice() -> Random:
    """Dice of one's own, for jitter and the like."""
    seeds = _seeds.get()
    return Random() if seeds is None else Random(seeds.getrandbits(64))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What makes itself dice in this context gets them from the seed."""
    token = _seeds.set(Random(seed))
    try:
        yield
    finally:
        _seeds.reset(token)
