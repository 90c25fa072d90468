"""Two kernels, one a child of the other, put together as the driver does it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from kombu_actors.supervisors._records import (
    AskToStop,
    Begin,
    Ended,
    Ending,
    Event,
    Exit,
    Exited,
    Ready,
    RestartChild,
    Settled,
    Shutdown,
    StartChild,
    State,
    StopChild,
)

from .exploration import Count, Situation, Step, Violation, World, advance, everyday, first_situation, require, walk

NESTED = "n"
HOW = {
    Ending.STOPPED: Exit.FAILED,  # told to stop: the parent doesn't look
    Ending.FINISHED: Exit.RETURNED,
    Ending.LIMIT: Exit.FAILED,
    Ending.FATAL: Exit.FAILED,
}


class Family(NamedTuple):
    """The outer supervisor's world, and the inner one's while there is one."""

    outer: World
    inner: World | None = None

    @property
    def settled(self) -> bool:
        return self.outer.settled

    @property
    def closing(self) -> bool:
        return self.outer.closing

    @property
    def ended(self) -> bool:
        return self.outer.ended


class Below(NamedTuple):
    """An event of the inner supervisor."""

    event: Event


def explore_family(outer: State, inner: State, step: Step) -> Count:
    """Visit every world of a supervisor with a nested one (its child ``n``)."""
    first, fresh = Family(World(first_situation(outer, step))), first_situation(inner, step)
    return walk(first, _choices, lambda family, event: _advance(family, event, fresh))


def _choices(family: Family) -> Iterator[Event]:
    for event in everyday(family.outer):
        # What the nested supervisor does follows from its own events.
        if not (isinstance(event, (Exited, Ready)) and event.id == NESTED):
            yield event
    yield RestartChild(NESTED, True, 0.0)
    if family.inner is not None:
        for event in everyday(family.inner):
            if not isinstance(event, Shutdown):
                yield Below(event)  # type: ignore[misc]
        for number, child in enumerate(family.inner.state.children):
            yield Below(StopChild(child.id, forget=number > 0))  # type: ignore[misc]


def _advance(family: Family, event: Event | Below, fresh: Situation) -> Family:
    outer, inner = family
    queue: deque[tuple[bool, Event]] = deque()
    if isinstance(event, Below):
        queue.append((True, event.event))
    else:
        queue.append((False, event))
    while queue:
        below, current = queue.popleft()
        if below:
            if inner is None:
                raise Violation(f"{current} for a nested supervisor that is not there")
            inner, effects = advance(inner, current)
            over = False
            for effect in effects:
                if isinstance(effect, Settled):
                    queue.append((False, Ready(NESTED, 1, 0.0)))
                elif isinstance(effect, Ended):
                    over = True
                    queue.append((False, Exited(NESTED, 1, HOW[effect.ending], 0.0, 0.0)))
            if over:
                require(not inner.running, "a nested supervisor ended before its children")
                inner = None
        else:
            outer, effects = advance(outer, current)
            for effect in effects:
                if isinstance(effect, StartChild) and effect.id == NESTED:
                    require(inner is None, "a nested supervisor was started twice")
                    inner = World(fresh)
                    queue.append((True, Begin()))
                elif isinstance(effect, AskToStop) and effect.id == NESTED:
                    queue.append((True, Shutdown()))
    require((NESTED in outer.running) == (inner is not None), "parent and nested supervisor disagree")
    return Family(outer, inner)
