"""Walks every state a supervisor's kernel can get into, and judges each step by an independent book.

The ``World`` is the shipped kernel's state plus what an observer outside has seen: who runs,
who was told to stop, which timers are armed.  The rules are checked against that book, never
against the kernel's own opinion.

Many worlds share a state, so each state is one object, which is asked once what it decides of an event.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

from kombu_actors.supervisors._kernel import Kernel
from kombu_actors.supervisors._policy import FINAL, ChildState, Restart, Strategy
from kombu_actors.supervisors._records import (
    Arm,
    AskToStop,
    Begin,
    Child,
    ChildAdded,
    Closing,
    Disarm,
    Effect,
    Ended,
    Event,
    Exit,
    Exited,
    Fate,
    Gone,
    GotStuck,
    Held,
    Ready,
    RestartChild,
    Served,
    Shutdown,
    StartChild,
    State,
    StopChild,
    Stuck,
    TimerFired,
)

Step = Callable[[State, Event], tuple[State, tuple[Effect, ...]]]
NOBODY: frozenset[str] = frozenset()


def scrupulous(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """``step``; and what the kernel has noted of its children is what a new one would note."""
    kernel = Kernel(state)
    effects = kernel.feed(event)
    after = kernel.state()
    fresh = Kernel(after)
    if not fresh.ended:
        require(kernel.children.conditions() == fresh.children.conditions(), "the roster's notes are wrong")
    return after, effects


class Violation(AssertionError):
    """A rule was broken; ``trace`` is the shortest way there."""

    def __init__(self, rule: str, trace: tuple[Event, ...] = ()) -> None:
        super().__init__(f"{rule}\n" + "\n".join(f"  {number}. {event}" for number, event in enumerate(trace, 1)))
        self.rule = rule
        self.trace = trace


class Decision(NamedTuple):
    """What the kernel made of an event."""

    state: State
    effects: tuple[Effect, ...]
    following: Situation


class Situation:
    """One state of the kernel, of which there is one object, with what was decided in it so far."""

    __slots__ = ("_decided", "_met", "_step", "frugal", "known", "once", "order", "state", "ungated")

    def __init__(self, state: State, step: Step, met: dict[State, Situation]) -> None:
        self.state = state
        self._step = step
        self._met = met
        self._decided: dict[tuple[type, Event], Decision] = {}
        self.order = [child.id for child in state.children]
        self.known = frozenset(self.order)
        self.ungated = ungated(state)
        self.frugal = {child.id for child in state.children if child.limit is not None}
        """Who has a budget of its own."""
        self.once = {child.id for child in state.children if child.restart is Restart.TEMPORARY and child.epoch > 0}

    def decide(self, event: Event) -> Decision:
        kind = (type(event), event)  # tuples of two classes may be equal
        found = self._decided.get(kind)
        if found is None:
            state, effects = self._step(self.state, event)
            found = self._decided[kind] = Decision(state, effects, self.meet(normal(state)))
        return found

    def meet(self, state: State) -> Situation:
        """The one object of a state."""
        found = self._met.get(state)
        if found is None:
            found = self._met[state] = Situation(state, self._step, self._met)
        return found

    def check_stale(self) -> None:
        """What concerns a former life changes nothing."""
        kernel = Kernel(self.state)
        for event in _stale(self.state):
            require(kernel.feed(event) == (), f"stale, but it had an effect: {event}")
        require(kernel.state() == self.state, "what is stale has changed something")


def ungated(state: State) -> set[str]:
    """Whom no sibling keeps waiting."""
    if state.rules.strategy is not Strategy.ONE_FOR_ONE:
        return set()
    return {child.id for child in state.children if not child.static}


def first_situation(state: State, step: Step) -> Situation:
    """Where a walk begins."""
    return Situation(state, step, {}).meet(state)


class World(NamedTuple):
    """The kernel's state and the observer's book."""

    at: Situation
    running: frozenset[str] = NOBODY
    told: frozenset[str] = NOBODY
    stuck: frozenset[str] = NOBODY
    ready: frozenset[str] = NOBODY
    served: frozenset[str] = NOBODY
    """Has been READY at least once."""
    armed: frozenset[str] = NOBODY
    done: frozenset[str] = NOBODY
    """Reported gone for good."""
    wished: frozenset[str] = NOBODY
    """To be restarted by somebody's wish."""
    spent: int = 0
    closing: bool = False
    ended: bool = False

    @property
    def state(self) -> State:
        return self.at.state

    @property
    def settled(self) -> bool:
        return self.at.state.settled


class Count(NamedTuple):
    """How much was explored."""

    configurations: int = 0
    states: int = 0
    transitions: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.configurations} configurations, {self.states:,} states, "
            f"{self.transitions:,} transitions, {self.seconds:.1f} s of CPU"
        )

    def plus(self, other: Count) -> Count:
        return Count(
            self.configurations + other.configurations,
            self.states + other.states,
            self.transitions + other.transitions,
            self.seconds + other.seconds,
        )


_normal_children: dict[Child, Child] = {}


def normal(state: State) -> State:
    """Forget what no decision depends on: how many epochs, timers, failures there have been."""
    return state.but(children=tuple([_normal_child(child) for child in state.children]), timers=0)


def _normal_child(child: Child) -> Child:
    found = _normal_children.get(child)
    if found is None:
        found = _normal_children[child] = child.but(
            epoch=min(child.epoch, 1), streak=0, delay=0.0, timer=min(child.timer, 1)
        )
    return found


def everyday(world: World) -> Iterator[Event]:
    """What can happen by itself, plus the wish to shut down."""
    doomed = {child.id for child in world.state.children if child.after is not None}
    for id in sorted(world.running):
        if id in doomed:
            yield Exited(id, 1, Exit.FAILED, 0.0, 0.0)
            if id not in world.ready and id not in world.told:
                yield Ready(id, 1, 0.0)
        elif id in world.ready:
            yield Exited(id, 1, Exit.RETURNED, 0.0, 0.0)
            yield Exited(id, 1, Exit.FAILED, 0.0, 0.0)
        else:
            yield Ready(id, 1, 0.0)
            yield Exited(id, 1, Exit.FAILED, 0.0, 0.0)
    for id in sorted(world.armed):
        yield TimerFired(id, 1)
    if not world.closing:
        yield Shutdown()


def everything(added: Child | None = None, *, again: str = "") -> Callable[[World], Iterator[Event]]:
    """Also stuck and incurable children, requests by hand, one child added at run time, one started again."""

    def events(world: World) -> Iterator[Event]:
        yield from everyday(world)
        known = {child.id: child for child in world.state.children}
        for id in sorted(world.running):
            yield Exited(id, 1, Exit.FATAL, 0.0, 0.0)
            if id not in world.stuck and (id in world.told or id not in world.ready):
                yield Stuck(id, 1)
        for id, child in known.items():
            if child.state not in FINAL:
                yield StopChild(id)
                yield RestartChild(id, True, 0.0)
                yield RestartChild(id, False, 0.0)
            elif id == again and not world.closing:
                yield ChildAdded(Child(id, child.restart, child.significant, static=False, trial=True))
            yield StopChild(id, forget=True)
        if added is not None and added.id not in known and not world.closing:
            yield ChildAdded(added)

    return events


class Explorable(Protocol):
    """What the walk needs to know of a world."""

    @property
    def settled(self) -> bool: ...
    @property
    def closing(self) -> bool: ...
    @property
    def ended(self) -> bool: ...


W = TypeVar("W", bound=Explorable)


def explore(
    state: State,
    step: Step,
    events: Callable[[World], Iterator[Event]] = everyday,
    *,
    check_stale: bool = False,
) -> Count:
    """Visit every world of one supervisor; raise ``Violation`` with a shortest trace."""

    checked: set[Situation] = set()

    def choices(world: World) -> Iterator[Event]:
        if check_stale and world.at not in checked:
            checked.add(world.at)
            world.at.check_stale()
        return events(world)

    return walk(World(first_situation(state, step)), choices, lambda world, event: advance(world, event)[0])


def walk(first: W, choices: Callable[[W], Iterator[Event]], advance: Callable[[W, Event], W]) -> Count:
    """Visit, breadth first, everything reachable from ``first`` after ``Begin``."""
    with keeping_everything():
        return _walk(first, choices, advance)


@contextmanager
def keeping_everything() -> Iterator[None]:
    """A walk throws nothing away, and looking for what it might have thrown away took a third of its time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _walk(first: W, choices: Callable[[W], Iterator[Event]], advance: Callable[[W, Event], W]) -> Count:
    began = time.process_time()
    graph = Graph()
    numbers = {first: graph.add(None, Begin(), first)}
    queue = deque([(0, first)])
    while queue:
        number, world = queue.popleft()
        event: Event = Begin()
        try:
            for event in (Begin(),) if number == 0 else choices(world):
                following = advance(world, event)
                found = numbers.get(following)
                if found is None:
                    found = numbers[following] = graph.add(number, event, following)
                    if not following.ended:
                        queue.append((found, following))
                graph.edges.append((number, found, isinstance(event, Shutdown)))
        except Violation as violation:
            raise Violation(violation.rule, (*graph.trace(number), event)) from None
    graph.check_reachable(graph.ended, graph.edges, "no end can be reached from here")
    graph.check_reachable(
        graph.resting,
        [edge for edge in graph.edges if not edge[2]],
        "neither readiness nor an end can be reached from here without being told to stop",
    )
    return Count(1, len(numbers), len(graph.edges), time.process_time() - began)


class Graph:
    """What was visited, by number in the order of the visit."""

    def __init__(self) -> None:
        self.came_from: list[tuple[int | None, Event]] = []
        self.edges: list[tuple[int, int, bool]] = []
        """From, to, and whether somebody asked for a shutdown."""
        self.ended: set[int] = set()
        self.resting: set[int] = set()
        """Worlds that have become READY, or are about to end."""

    def add(self, before: int | None, event: Event, world: Explorable) -> int:
        number = len(self.came_from)
        self.came_from.append((before, event))
        if world.ended:
            self.ended.add(number)
        if world.closing or world.settled:
            self.resting.add(number)
        return number

    def trace(self, number: int) -> tuple[Event, ...]:
        """The events of a shortest way to a world."""
        events: list[Event] = []
        before, event = self.came_from[number]
        while before is not None:
            events.append(event)
            before, event = self.came_from[before]
        return tuple(reversed(events))

    def check_reachable(self, goal: set[int], edges: list[tuple[int, int, bool]], rule: str) -> None:
        back: list[list[int]] = [[] for _ in self.came_from]
        for before, after, _ in edges:
            back[after].append(before)
        good = set(goal)
        queue = list(goal)
        while queue:
            for before in back[queue.pop()]:
                if before not in good:
                    good.add(before)
                    queue.append(before)
        for number in range(len(self.came_from)):
            if number not in good:
                raise Violation(rule, self.trace(number))


def _stale(state: State) -> Iterator[Event]:
    for child in state.children:
        yield Ready(child.id, 0, 0.0)
        yield Exited(child.id, 0, Exit.FAILED, 0.0, 0.0)
        yield Exited(child.id, 0, Exit.FATAL, 0.0, 0.0)
        yield Stuck(child.id, 0)
        yield TimerFired(child.id, 7)
        yield TimerFired(child.id, 0)


def advance(world: World, event: Event) -> tuple[World, tuple[Effect, ...]]:
    """One step: let the kernel decide, and enter its effects into the book under the rules."""
    decision = world.at.decide(event)
    book = Book(world, decision, event)
    for effect in decision.effects:
        book.enter(effect)
    book.check()
    return book.world(decision.following), decision.effects


class Book:
    """The observer: writes down effects, and objects."""

    def __init__(self, world: World, decision: Decision, event: Event) -> None:
        before = world.at
        self.after = decision.state
        self.by_hand = event.id if isinstance(event, StopChild) else ""
        self.manual = isinstance(event, RestartChild)
        self.order = before.order
        self.ungated = before.ungated
        self.frugal = before.frugal
        self.once = before.once
        self.running, self.told, self.stuck = set(world.running), set(world.told), set(world.stuck)
        self.ready, self.served, self.armed = set(world.ready), set(world.served), set(world.armed)
        self.done, self.wished, self.spent = set(world.done), set(world.wished), world.spent
        self.closing, self.ended = world.closing, world.ended
        if isinstance(event, Exited):
            for whom in (self.running, self.told, self.stuck, self.ready):
                whom.discard(event.id)
        elif isinstance(event, TimerFired):
            self.armed.discard(event.id)
        elif isinstance(event, ChildAdded):
            id = event.child.id
            self.done.discard(id)
            self.served.discard(id)
            self.once = self.once - {id}
            self.ungated = self.ungated | ungated(decision.state)
            self.order = self.order if id in self.order else [*self.order, id]
        elif isinstance(event, RestartChild):
            self.wished.add(event.id)

    def world(self, at: Situation) -> World:
        known = at.known
        return World(
            at,
            frozenset(self.running),
            frozenset(self.told),
            frozenset(self.stuck),
            frozenset(self.ready),
            known & self.served,
            frozenset(self.armed),
            known & self.done,
            known & self.wished & self.once,
            self.spent,
            self.closing,
            self.ended,
        )

    def enter(self, effect: Effect) -> None:
        match effect:
            case StartChild(id):
                self.started(id)
            case AskToStop(id):
                self.asked_to_stop(id)
            case Served(id):
                self.ready.add(id)
                self.served.add(id)
            case GotStuck(id):
                self.stuck.add(id)
            case Arm(id):
                require(id not in self.armed, f"{id} has two timers")
                require(id not in self.running, f"{id} waits for a restart while it runs")
                self.armed.add(id)
            case Disarm(id):
                require(id in self.armed, f"a timer of {id} was cancelled that was not armed")
                self.armed.discard(id)
            case Gone(id, fate):
                require(id not in self.running, f"{id} was reported gone while it runs")
                require(id not in self.done, f"{id} was reported gone twice")
                require(fate is not Fate.COMPLETED or id not in self.told, f"{id} completed though told to stop")
                self.done.add(id)
            case Held(id, _, cooling) if not self.manual and id not in self.frugal:
                self.spent = 0 if cooling else self.spent + 1
            case Closing():
                require(not self.closing, "the end began twice")
                self.closing = True
            case Ended():
                require(self.closing, "an end without a beginning of the end")
                require(not self.running, f"ended while {sorted(self.running)} run")
                require(not self.armed, f"ended while timers of {sorted(self.armed)} are armed")
                self.ended = True

    def started(self, id: str) -> None:
        require(not self.closing, f"{id} was started while the supervisor stops")
        require(id not in self.running, f"{id} was started while an incarnation of it runs")
        require(id not in self.done, f"{id} was started though it is gone for good")
        require(id not in self.armed, f"{id} was started before its delay was over")
        require(id not in self.once or id in self.wished, f"{id} is TEMPORARY and was started again")
        self.wished.discard(id)
        strategy = self.after.rules.strategy
        again = strategy is Strategy.ONE_FOR_ONE and id in self.served
        elders = [] if id in self.ungated or again else self.order[: self.order.index(id)]
        for elder in elders:
            if elder in self.done:
                continue
            if strategy is Strategy.ONE_FOR_ONE:
                require(elder in self.served, f"{id} was started before its elder {elder} was ever READY")
            else:
                fine = elder in self.ready and elder not in self.told
                require(fine, f"{id} was started though its elder {elder} does not serve")
        if strategy is Strategy.ONE_FOR_ALL:
            require(not self.told & self.running, f"{id} was started while {sorted(self.told)} are being stopped")
            require(not self.armed, f"{id} was started while {sorted(self.armed)} wait")
        self.running.add(id)

    def asked_to_stop(self, id: str) -> None:
        require(id in self.running, f"{id} was told to stop though it does not run")
        require(id not in self.told, f"{id} was told to stop twice")
        grouped = self.closing or self.after.rules.strategy is not Strategy.ONE_FOR_ONE
        if grouped and id != self.by_hand and id not in self.ungated:
            younger = set(self.order[self.order.index(id) + 1 :])
            left = (younger & self.running) - self.stuck
            require(not left, f"{id} was told to stop before the younger {sorted(left)} had gone")
        self.told.add(id)

    def check(self) -> None:
        limit = self.after.rules.limit.max_restarts
        require(limit is None or self.spent <= limit, f"{self.spent} restarts from a budget of {limit}")
        if self.ended:
            return
        require(not self.closing or bool(self.running), "everyone is gone, but the end does not come")
        moving = self.armed or (self.running - self.ready) or self.told
        for child in self.after.children:
            if child.state in FINAL:
                require(child.id in self.done, f"{child.id} is gone for good and nobody was told")
            elif child.id not in self.running and child.id not in self.armed:
                require(
                    child.state is ChildState.NEW or bool(self.told | self.stuck), f"{child.id} is lost in its delay"
                )
                require(bool(moving), f"{child.id} is lost: nothing will ever start it")
                require(not self.closing, f"{child.id} waits for a start while the supervisor stops")


def require(fine: bool, rule: str) -> None:
    if not fine:
        raise Violation(rule)
