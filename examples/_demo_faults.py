"""The demonstration's saboteur: what goes wrong, when, and how it is brought about."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

import attrs
import trio

from kombu_actors.broker import Delivered


class Fault(Enum):
    """What the demonstration breaks; the value is how it is told."""

    CRASH = "handler crash"
    CHANNEL = "channel closed by the broker"
    SESSION = "session lost"


class HandlerCrash(Exception):
    """The bug that every fleet has."""


def plan_faults(count: int, seconds: float, rng: random.Random) -> list[tuple[float, Fault]]:
    """``count`` faults, of each kind as many, spread over ``seconds``; the same seed plans the same."""
    kinds = [list(Fault)[number % len(Fault)] for number in range(count)]
    rng.shuffle(kinds)
    share = seconds / max(count, 1)
    return [((number + rng.uniform(0.2, 0.8)) * share, kind) for number, kind in enumerate(kinds)]


@attrs.define
class Saboteur:
    """Carries out a plan.  ``cut`` drops the broker connection, ``tell`` is told of each fault, ``done`` lists them."""

    cut: Callable[[], None]
    tell: Callable[[str], None]
    done: list[Fault]
    _armed: deque[Fault] = attrs.field(factory=deque)

    async def run(self, plan: Sequence[tuple[float, Fault]]) -> None:
        """Break one thing after the other."""
        start = trio.current_time()
        for at, fault in plan:
            await trio.sleep_until(start + at)
            if fault is Fault.SESSION:
                self._commit(fault)
                self.cut()
            else:
                self._armed.append(fault)  # befalls whichever handler finishes a message next

    def before_ack(self, message: Delivered) -> None:
        """The point where a handler's faults happen: its work is done, the broker doesn't know it yet."""
        if not self._armed:
            return
        fault = self._armed.popleft()
        self._commit(fault)
        if fault is Fault.CRASH:
            raise HandlerCrash("crashed before it could acknowledge its message")
        # Acknowledging a copy makes the handler's own ack the second one: an unknown delivery tag,
        # for which the broker closes the channel (406).  ``ack`` on one object twice is refused.
        copy.copy(message).ack()

    def _commit(self, fault: Fault) -> None:
        self.done.append(fault)
        self.tell(f"fault: {fault.value}")
