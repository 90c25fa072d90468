"""All decisions of a supervisor, as one pure function: ``step(state, event) -> (state, effects)``.

The kernel alone decides restart, group, order, budget, backoff, escalation and stop.  It knows
no clock, no tasks and no chance: times and draws come in with the events.  A nested supervisor
is a child like any other.  Because it is pure, ``tests/supervisors`` explores every state it
can get into.

Rules that the exploration holds it to:

* a child is started only when its incarnation before is gone;
* under REST_FOR_ONE and ONE_FOR_ALL, and initially under every strategy, a child is started
  only when its elder siblings have become READY; stops go the other way;
* one failure costs one restart of the budget, however large its group;
* overlapping group restarts merge: one root (the eldest), the longest delay, one ordered start;
* a child that is done is never started again; nothing is started while the supervisor ends.
"""

from __future__ import annotations

from ._policy import FINAL, HELD, LIVE, AutoShutdown, ChildState, OnLimit, Restart, Strategy
from ._records import (
    After,
    Arm,
    AskToStop,
    Begin,
    Child,
    ChildAdded,
    Closing,
    Disarm,
    Effect,
    Ended,
    Ending,
    Event,
    Exit,
    Exited,
    Fate,
    Gone,
    GotStuck,
    Grouped,
    Held,
    LimitHit,
    Origin,
    Ready,
    RestartChild,
    Rules,
    Served,
    Settled,
    Shutdown,
    StartChild,
    State,
    StopChild,
    Stuck,
    TimerFired,
)


def initial(rules: Rules, children: tuple[Child, ...]) -> State:
    """The state before ``Begin``."""
    return State(rules=rules, children=children)


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Decide what follows from an event.  Stale events (old epoch, old timer) change nothing."""
    return Step(state).take(event)


class Step:
    """The scratch pad of one step; thrown away after it."""

    __slots__ = ("children", "dropped", "effects", "ending", "recent", "rules", "settled", "state", "timers")

    def __init__(self, state: State) -> None:
        self.state = state
        self.rules = state.rules
        self.children = list(state.children)
        self.recent = state.recent
        self.ending = state.ending
        self.settled = state.settled
        self.timers = state.timers
        self.effects: list[Effect] = []
        self.dropped = False

    def take(self, event: Event) -> tuple[State, tuple[Effect, ...]]:
        """Apply one event, then do everything that has become possible."""
        if self.state.ended:
            return self.state, ()
        getattr(self, _HANDLERS[type(event)])(event)
        self.stop_in_order()
        ended = self.ending is not None and not any(child.state in LIVE for child in self.children)
        if ended:
            assert self.ending is not None
            self.effects.append(Ended(self.ending))
        elif self.ending is None:
            self.arm_delays()
            self.start_in_order()
            self.settle()
        if self.dropped:
            self.children = [c for c in self.children if c.state not in FINAL or c.origin is Origin.STATIC]
        state = State(self.rules, tuple(self.children), self.recent, self.ending, self.settled, self.timers, ended)
        return state, tuple(self.effects)

    # -- events -------------------------------------------------------------------------------

    def begin(self, event: Begin) -> None:
        """Nothing to note: ``start_in_order`` does the work."""

    def ready(self, event: Ready) -> None:
        index = self.live(event.id, event.epoch)
        if index is None or self.children[index].state is not ChildState.STARTING:
            return
        child = self.children[index]
        origin = Origin.RECALLED if child.origin is Origin.ADDED else child.origin
        self.children[index] = child._replace(
            state=ChildState.READY, proven=child.proven or child.after is None, ready_at=event.now, origin=origin
        )
        self.effects.append(Served(child.id))

    def exited(self, event: Exited) -> None:
        index = self.live(event.id, event.epoch)
        if index is None:
            return
        child = self.children[index]
        if child.after is not None:
            self.went_down(index)
        elif child.origin is Origin.ADDED and event.how is not Exit.RETURNED:
            self.gone(index, Fate.FAILED)
        elif child.restart is Restart.TEMPORARY or (child.restart is Restart.TRANSIENT and event.how is Exit.RETURNED):
            self.gone(index, Fate.COMPLETED if event.how is Exit.RETURNED else Fate.FAILED)
            self.consider_auto_shutdown(child)
        elif event.how is Exit.FATAL:
            self.gone(index, Fate.ESCALATED)
            self.end(Ending.FATAL)
        else:
            self.failed(index, event)

    def stuck(self, event: Stuck) -> None:
        index = self.live(event.id, event.epoch)
        if index is not None and self.children[index].state is not ChildState.STUCK:
            self.children[index] = self.children[index]._replace(state=ChildState.STUCK)
            self.effects.append(GotStuck(event.id))

    def timer_fired(self, event: TimerFired) -> None:
        index = self.find(event.id)
        if index is None:
            return
        child = self.children[index]
        if child.state in HELD and child.timer == event.timer != 0:
            self.children[index] = child._replace(state=ChildState.NEW, timer=0, delay=0.0)

    def child_added(self, event: ChildAdded) -> None:
        if self.ending is None:
            self.children = [c for c in self.children if c.id != event.child.id or c.state not in FINAL]
            self.children.append(event.child)

    def stop_child(self, event: StopChild) -> None:
        index = self.find(event.id)
        if index is None:
            return
        child = self.children[index]
        if event.forget and child.origin is Origin.STATIC:
            child = self.children[index] = child._replace(origin=Origin.RECALLED)
            self.dropped = True
        if child.state in LIVE:
            self.children[index] = child._replace(after=After.LEAVE)
            if child.state in (ChildState.STARTING, ChildState.READY):
                self.ask_to_stop(index)
        elif child.state not in FINAL:
            self.gone(index, Fate.STOPPED)

    def restart_child(self, event: RestartChild) -> None:
        index = self.find(event.id)
        if index is None:
            return
        child = self.children[index]
        if child.state in HELD and event.at_once:
            if child.timer:
                self.effects.append(Disarm(child.id))
            self.children[index] = child._replace(delay=0.0, timer=0)
        elif child.state in LIVE and child.after is None:
            delay = 0.0 if event.at_once else self.rules.backoff.delay(child.streak, event.u)
            self.hold(index, delay, down=False)

    def shutdown(self, event: Shutdown) -> None:
        self.end(event.ending)

    # -- decisions ----------------------------------------------------------------------------

    def failed(self, index: int, event: Exited) -> None:
        """A failure that calls for a restart: pay for it, and choose the delay."""
        child, limit, backoff = self.children[index], self.rules.limit, self.rules.backoff
        served = None if child.ready_at is None else event.now - child.ready_at
        delay, streak = backoff.after_failure(child.streak, served, event.u)
        self.children[index] = child._replace(streak=streak)
        if limit.max_restarts is None:
            self.hold(index, delay, down=True)
            return
        self.recent = tuple(at for at in self.recent if at > event.now - limit.within)
        if len(self.recent) < limit.max_restarts:
            self.recent += (event.now,)
            self.hold(index, delay, down=True)
            return
        self.effects.append(LimitHit(child.id))
        if limit.on_limit is OnLimit.COOL_DOWN:
            self.recent = ()
            self.hold(index, limit.cool_down, down=True, cooling=True)
        else:
            self.gone(index, Fate.ESCALATED)
            self.end(Ending.LIMIT)

    def hold(self, root: int, delay: float, *, down: bool, cooling: bool = False) -> None:
        """Start ``root`` again after a delay, and its group with it."""
        members = self.members(root)
        for index in members:
            delay, cooling = self.join_group(index, delay, cooling)
        child = self.children[root]
        alone = self.rules.strategy is Strategy.ONE_FOR_ONE
        child = child._replace(delay=delay, timer=0, proven=child.proven and alone)
        if down:
            state = ChildState.COOLING_DOWN if cooling else ChildState.BACKING_OFF
            self.children[root] = child._replace(state=state, after=None, ready_at=None)
        else:
            self.children[root] = child._replace(after=After.HOLD)
        self.effects.append(Held(child.id, delay, cooling))
        if members:
            self.effects.append(Grouped(child.id, tuple(self.children[index].id for index in members)))

    def members(self, root: int) -> list[int]:
        """Who else is restarted with this child; the finished are left in peace."""
        match self.rules.strategy:
            case Strategy.ONE_FOR_ONE:
                return []
            case Strategy.REST_FOR_ONE:
                candidates = range(root + 1, len(self.children))
            case Strategy.ONE_FOR_ALL:
                candidates = range(len(self.children))
        return [i for i in candidates if i != root and self.children[i].state not in FINAL]

    def join_group(self, index: int, delay: float, cooling: bool) -> tuple[float, bool]:
        """Make a sibling wait for the group's root; a delay of its own becomes the group's."""
        child = self.children[index]
        if child.state in HELD:
            delay = max(delay, child.delay)
            cooling = cooling or child.state is ChildState.COOLING_DOWN
            if child.timer:
                self.effects.append(Disarm(child.id))
            child = child._replace(state=ChildState.NEW, delay=0.0, timer=0)
        elif child.state in LIVE and child.after is not After.LEAVE:
            delay = max(delay, child.delay)
            child = child._replace(after=After.QUEUE, delay=0.0)
        self.children[index] = child._replace(proven=False)
        return delay, cooling

    def went_down(self, index: int) -> None:
        """A child that had to go is gone, in whatever way; that is no failure."""
        child = self.children[index]
        match child.after:
            case After.LEAVE | None:
                self.gone(index, Fate.STOPPED)
            case After.QUEUE:
                self.children[index] = child._replace(state=ChildState.NEW, after=None, ready_at=None)
            case After.HOLD:
                self.children[index] = child._replace(state=ChildState.BACKING_OFF, after=None, ready_at=None)

    def gone(self, index: int, fate: Fate) -> None:
        child = self.children[index]
        if child.timer:
            self.effects.append(Disarm(child.id))
        state = ChildState.COMPLETED if fate is Fate.COMPLETED else ChildState.STOPPED
        self.children[index] = child._replace(state=state, after=None, delay=0.0, timer=0, ready_at=None)
        self.dropped = self.dropped or child.origin is not Origin.STATIC
        self.effects.append(Gone(child.id, fate))

    def consider_auto_shutdown(self, child: Child) -> None:
        """Called when a child has ended by itself; one that was stopped triggers nothing."""
        wish = self.rules.auto_shutdown
        if not child.significant or wish is AutoShutdown.NEVER:
            return
        if wish is AutoShutdown.ANY_SIGNIFICANT or all(
            other.state in FINAL for other in self.children if other.significant
        ):
            self.end(Ending.FINISHED)

    def end(self, ending: Ending) -> None:
        if self.ending is not None:
            return
        self.ending = ending
        self.effects.append(Closing(ending))
        for index in reversed(range(len(self.children))):
            child = self.children[index]
            if child.state in LIVE:
                self.children[index] = child._replace(after=After.LEAVE)
            elif child.state not in FINAL:
                self.gone(index, Fate.STOPPED)

    # -- what has become possible ---------------------------------------------------------------

    def stop_in_order(self) -> None:
        """Ask the youngest child that must go; its elders when it is gone.

        One that is stuck has been asked and cancelled: waiting longer for it helps nobody.
        """
        waiting = False
        for index, child in zip(range(len(self.children) - 1, -1, -1), reversed(self.children), strict=True):
            if child.after is None or child.state not in LIVE:
                continue
            in_order = self.gated(child) and (
                self.ending is not None or self.rules.strategy is not Strategy.ONE_FOR_ONE
            )
            if waiting and in_order:
                return
            if child.state in (ChildState.STARTING, ChildState.READY):
                self.ask_to_stop(index)
            waiting = waiting or child.state is not ChildState.STUCK

    def arm_delays(self) -> None:
        """Let a delay begin when everyone it concerns is down."""
        for index, child in enumerate(self.children):
            if child.state in HELD and not child.timer and not self.group_alive(index):
                self.timers += 1
                self.children[index] = child._replace(timer=self.timers)
                self.effects.append(Arm(child.id, self.timers, child.delay))

    def start_in_order(self) -> None:
        """Start whom nobody keeps waiting; in one pass, for there may be thousands."""
        strategy = self.rules.strategy
        alone = strategy is Strategy.ONE_FOR_ONE
        held_up = strategy is Strategy.ONE_FOR_ALL and any(self.going(child) for child in self.children)
        for index, child in enumerate(self.children):
            if child.state is ChildState.NEW and not (held_up and self.gated(child)):
                self.start(index)
            if not held_up:
                held_up = self.unproven(child) or (strategy is Strategy.REST_FOR_ONE and self.going(child))
            elif not alone:
                return

    def start(self, index: int) -> None:
        child = self.children[index]
        self.children[index] = child._replace(state=ChildState.STARTING, epoch=child.epoch + 1)
        self.effects.append(StartChild(child.id, child.epoch + 1, child.streak + 1))

    def settle(self) -> None:
        if not self.settled and not any(self.unproven(c) for c in self.children if c.origin is not Origin.ADDED):
            self.settled = True
            self.effects.append(Settled())

    # -- questions ----------------------------------------------------------------------------

    def find(self, id: str) -> int | None:
        for index, child in enumerate(self.children):
            if child.id == id:
                return index
        return None

    def live(self, id: str, epoch: int) -> int | None:
        index = self.find(id)
        if index is None or self.children[index].epoch != epoch or self.children[index].state not in LIVE:
            return None
        return index

    def gated(self, child: Child) -> bool:
        """Whether starts and stops of this child wait for its siblings."""
        return self.rules.strategy is not Strategy.ONE_FOR_ONE or child.origin is Origin.STATIC

    def unproven(self, child: Child) -> bool:
        return not child.proven and child.state not in FINAL

    def going(self, child: Child) -> bool:
        """Down for a delay, or on the way down."""
        return child.state in HELD or (child.state in LIVE and child.after is not None)

    def group_alive(self, root: int) -> bool:
        match self.rules.strategy:
            case Strategy.ONE_FOR_ONE:
                return False
            case Strategy.REST_FOR_ONE:
                return any(child.state in LIVE for child in self.children[root + 1 :])
            case Strategy.ONE_FOR_ALL:
                return any(child.state in LIVE for child in self.children)

    def ask_to_stop(self, index: int) -> None:
        self.children[index] = self.children[index]._replace(state=ChildState.STOPPING)
        self.effects.append(AskToStop(self.children[index].id))


_HANDLERS: dict[type, str] = {
    Begin: "begin",
    Ready: "ready",
    Exited: "exited",
    Stuck: "stuck",
    TimerFired: "timer_fired",
    ChildAdded: "child_added",
    StopChild: "stop_child",
    RestartChild: "restart_child",
    Shutdown: "shutdown",
}
