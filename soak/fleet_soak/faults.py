"""What goes wrong, and when: drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import Enum

import attrs

BETWEEN = (5.0, 15.0)
"""Seconds between two faults, from and to."""


class Fault(Enum):
    """What can go wrong."""

    KILL_BROKER = "kill -9 of the broker"
    KILL_WORKER = "kill -9 of a worker"
    STOP_BROKER = "SIGSTOP of the broker"
    STOP_WORKER = "SIGSTOP of a worker"
    RESET = "all connections reset"
    BLACKHOLE = "a black hole"
    REFUSE = "all connections reset, and refused"
    ALARM = "a memory alarm"
    DELETE = "a queue deleted"


LASTING = {
    Fault.STOP_BROKER: (0.5, 5.0),
    Fault.STOP_WORKER: (0.5, 5.0),
    Fault.BLACKHOLE: (0.5, 10.0),
    Fault.REFUSE: (0.5, 4.0),
    Fault.ALARM: (0.5, 5.0),
}
"""Seconds, from and to."""
ONE_WORKER = {Fault.KILL_WORKER, Fault.STOP_WORKER}
"""What costs one worker its sessions; the others cost everybody's, but for these."""
NOBODY = {Fault.ALARM, Fault.DELETE}


@attrs.frozen
class Planned:
    """One fault."""

    after: float
    """Seconds since the heal of the one before."""
    fault: Fault
    seconds: float
    """How long it lasts."""
    which: float
    """From 0 to 1: which worker."""

    def __str__(self) -> str:
        return self.fault.value + (f" for {self.seconds:.1f} s" if self.seconds else "")


def faults(seed: int, between: tuple[float, float] = BETWEEN) -> Iterator[Planned]:
    """For ever: all of them, each round in another order."""
    dice = random.Random(seed)
    while True:
        kinds = [*Fault]
        dice.shuffle(kinds)
        for fault in kinds:
            seconds = dice.uniform(*LASTING[fault]) if fault in LASTING else 0.0
            yield Planned(dice.uniform(*between), fault, seconds, dice.random())
