"""When the keeper of a link acts next."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

import attrs
import trio

__all__ = ["LATER", "Schedule"]

LATER: Final = 0.005
"""Seconds that a few settlements, or a little room, wait for more of their kind."""


@attrs.define(eq=False)
class Schedule:
    """Times of trio's clock.  Who wants something earlier brings it forward; the keeper moves it on."""

    beat: float = 0.0
    timer: float = inf
    """The next message or queue that expires, as far as we were told."""
    later: float = inf
    """Small things that wait for more of their kind."""
    poll: float = inf
    """Lists of which the server doesn't tell when they change."""
    listen: float = inf
    """The listener's connection is wanted, and isn't there."""
    renewal: float = 0.0
    """When stock kombu would begin to take our messages for abandoned."""
    changed: trio.Event = attrs.field(factory=trio.Event)
    _postponed: list[Callable[[], None]] = attrs.field(factory=list)
    """Bounded by what may be claimed and not settled: while the server refuses calls nothing is added to that."""

    def postpone(self, act: Callable[[], None]) -> None:
        """Have a call that the server refused, because it takes no writes now, made again with the next beat."""
        self._postponed.append(act)

    def take_postponed(self) -> list[Callable[[], None]]:
        """What was postponed, in order: the beat has come."""
        postponed, self._postponed = self._postponed, []
        return postponed

    def bring_forward(self, name: str, at: float) -> None:
        """Act on ``name`` at the latest then."""
        if at < getattr(self, name):
            setattr(self, name, at)
            self.changed.set()

    async def wait(self) -> None:
        """Wait until something is due, or brought forward."""
        self.changed = trio.Event()
        with trio.move_on_at(min(self.beat, self.timer, self.later, self.poll, self.listen)):
            await self.changed.wait()
