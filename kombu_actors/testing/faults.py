"""What goes wrong, and when: drawn from a seed, or written down.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from random import Random

import attrs

__all__ = ["Fault", "FaultKind", "FaultPlan", "InjectedCrash"]


class InjectedCrash(Exception):
    """What a handler raises when a fault plan makes it fail."""


class FaultKind(Enum):
    """What can go wrong."""

    DROP_SESSION = "drop session"
    """One of the fleet's connections is cut, without a word."""
    CLOSE_CHANNEL = "close channel"
    """The broker closes one of the fleet's channels with an error."""
    KILL_FLEET = "kill fleet"
    """Its process dies, as of kill -9, and is started again."""
    RESTART_BROKER = "restart broker"
    """It stops and starts; what is durable remains."""
    REFUSE = "refuse"
    """The fleet's connections are cut, and for ``seconds`` nobody can connect."""
    BLOCK = "block"
    """An alarm: for ``seconds`` the broker takes no publishes."""
    CRASH_BEFORE = "crash before"
    """The next handler fails before it has done anything."""
    CRASH_AFTER = "crash after"
    """The next handler fails after it has done everything."""
    DELAY = "delay"
    """The next handler takes ``seconds`` longer."""
    DUPLICATE = "duplicate"
    """The next message that is handled comes again, as after a lost ack."""


AMIDST = 0.6
"""The share of drawn faults that fall into a handler's call."""
STEPS = 40
"""Checkpoints from the call of a handler that does little to its ack, retry included, and some more."""
LASTING = {FaultKind.REFUSE, FaultKind.BLOCK, FaultKind.DELAY}


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that goes wrong: at a time, or when a handler is called.

    On a clock that jumps everything that is done takes no time, so a fault at a time falls into the pauses between.
    With ``call`` it falls into the middle: of handlers, confirms and acks.
    """

    kind: FaultKind
    at: float = 0.0
    """Seconds after the fleet is READY."""
    call: int | None = None
    """Instead of ``at``: when a handler is called for that time, counted from 1 over the whole fleet ..."""
    steps: int = 0
    """... and so many of trio's checkpoints later."""
    seconds: float = 0.0
    """How long, for what lasts."""
    which: float = 0.0
    """From 0 to 1: which connection or channel it strikes, where there are several."""

    def __str__(self) -> str:
        lasting = f" for {self.seconds:g} s" if self.seconds else ""
        when = f"{self.at:g} s" if self.call is None else f"call {self.call} + {self.steps}"
        return f"{self.kind.value}{lasting} at {when}"


def _in_order(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.at))


@attrs.frozen
class FaultPlan:
    """The faults of one simulation."""

    faults: tuple[Fault, ...] = attrs.field(default=(), converter=_in_order)

    @classmethod
    def drawn(
        cls,
        seed: int,
        count: int = 5,
        *,
        within: float = 10.0,
        calls: int = 20,
        kinds: Sequence[FaultKind] = tuple(FaultKind),
    ) -> FaultPlan:
        """``count`` faults, the same for the same seed.

        Args:
            within: seconds over which those come that come at a time; more of them early.
            calls: the last call of a handler that one falls into.
            kinds: what may go wrong.
        """
        dice = Random(seed)
        return cls(tuple(_drawn(dice, within, calls, kinds) for _ in range(count)))

    def __str__(self) -> str:
        return ", ".join(map(str, self.faults)) or "no faults"


def _drawn(dice: Random, within: float, calls: int, kinds: Sequence[FaultKind]) -> Fault:
    kind = dice.choice(list(kinds))
    return Fault(
        kind=kind,
        at=round(within * dice.random() ** 3, 4),  # most of a scenario happens at its beginning
        call=dice.randint(1, calls) if dice.random() < AMIDST else None,
        steps=dice.randrange(STEPS),
        seconds=round(dice.uniform(0.05, 3.0), 2) if kind in LASTING else 0.0,
        which=round(dice.random(), 3),
    )
