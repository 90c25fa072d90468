"""The words of supervision: strategies, restart types, limits, states.  Values only."""

from __future__ import annotations

import math
from enum import Enum

from .._frozen import Frozen
from ._errors import SpecError


class Strategy(Enum):
    """Who is restarted when one child fails."""

    ONE_FOR_ONE = "one_for_one"
    """Only the failed child: siblings are independent."""
    ONE_FOR_ALL = "one_for_all"
    """Every child: siblings share their fate."""
    REST_FOR_ONE = "rest_for_one"
    """The failed child and those started after it: later children depend on earlier ones."""


class Restart(Enum):
    """Which ends of a child call for a restart."""

    PERMANENT = "permanent"
    """Every end does."""
    TRANSIENT = "transient"
    """A failure does; a normal return completes the child."""
    TEMPORARY = "temporary"
    """None does, also not its group's: it goes for good with a group that is restarted."""


class AutoShutdown(Enum):
    """Whether the end of significant children ends their supervisor."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class OnLimit(Enum):
    """What a supervisor does when its restart budget is spent."""

    ESCALATE = "escalate"
    """Stop the children in order and fail: right for programming errors."""
    COOL_DOWN = "cool_down"
    """Wait ``cool_down`` seconds, then go on with a fresh budget: right for outages of others."""
    STOP_CHILD = "stop_child"
    """The child that failed is gone for good, its siblings go on: right for one of many in a pool."""


class ChildState(Enum):
    """What a child is doing; one enum for actors and nested supervisors."""

    NEW = "new"
    """Not started yet: waits for its elder siblings to be READY."""
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    """Serving, but by its own account not well (``ctx.degraded(why)``)."""
    STOPPING = "stopping"
    BACKING_OFF = "backing_off"
    COOLING_DOWN = "cooling_down"
    STOPPED = "stopped"
    """Gone for good without having finished: stopped, failed without restart, or escalated."""
    COMPLETED = "completed"
    """Gone for good because its work is done; never started again."""
    STUCK = "stuck"
    """Cancelled, and still not gone."""


LIVE = (ChildState.STARTING, ChildState.READY, ChildState.STOPPING, ChildState.STUCK)
"""States in which a task (or a nested supervisor) exists."""
HELD = (ChildState.BACKING_OFF, ChildState.COOLING_DOWN)
"""States that wait for a moment."""
FINAL = (ChildState.STOPPED, ChildState.COMPLETED)
"""States nothing leads out of."""


def check_seconds(name: str, value: object, *, allow_zero: bool = True) -> None:
    """Raise ``SpecError`` unless the value is a usable number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise SpecError(f"{name} must be a number of seconds, not {value!r}")
    if value < 0 or (value == 0 and not allow_zero):
        raise SpecError(f"{name} must be {'at least' if allow_zero else 'more than'} 0 seconds, not {value!r}")


class RestartLimit(Frozen):
    """A budget of restarts, failed starts included: one for all children of a supervisor, or a child's own.

    ``max_restarts`` restarts are allowed in any ``within`` seconds; the next failure meets
    ``on_limit``.  None allows any number.  The defaults, 5 in 60 s, are wider than OTP's 1 in
    5 s because restarts here are delayed: with backoff a 5 s window could never fill up.
    """

    max_restarts: int | None = 5
    within: float = 60.0
    on_limit: OnLimit = OnLimit.ESCALATE
    cool_down: float = 60.0

    def settle(self) -> None:
        """Raise ``SpecError`` for a budget that can't be."""
        count: object = self.max_restarts
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise SpecError(f"max_restarts must be None (any number) or an integer of at least 0, not {count!r}")
        check_seconds("within", self.within, allow_zero=False)
        check_seconds("cool_down", self.cool_down)
