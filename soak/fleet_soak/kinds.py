"""How each message is to fare, by its number."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What its handler does."""

    PLAIN = "plain"
    RAISES = "raises at its first attempt"
    OVERRUNS = "overruns its time at its first attempt"
    NEVER = "always raises"
    REJECTED = "is rejected"
    POISON = "kills its process"


DEAD = {Kind.NEVER, Kind.REJECTED, Kind.POISON}
"""Those that end as dead letters; the others are handled."""
POISON_EVERY = 30_000
"""Messages, and the 3,000th is the first: each costs three processes."""


def kind_of(number: int) -> Kind:
    """Of message ``number``."""
    if number % POISON_EVERY == 3000:
        return Kind.POISON
    match number % 400:
        case 50 | 150 | 250 | 350:
            return Kind.RAISES
        case 100:
            return Kind.NEVER
        case 200:
            return Kind.REJECTED
        case 300:
            return Kind.OVERRUNS
        case _:
            return Kind.PLAIN
