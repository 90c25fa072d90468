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
* a child that is done is not started again unless somebody asks for it, and a TEMPORARY child goes for good
  with a group that is restarted; nothing is started while the supervisor ends.
"""

from __future__ import annotations

from typing import Any, Final

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
    Forgotten,
    Gone,
    GotStuck,
    Grouped,
    Held,
    LimitHit,
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
from ._roster import Roster


def initial(rules: Rules, children: tuple[Child, ...]) -> State:
    """The state before ``Begin``."""
    return State(rules=rules, children=children)


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Decide what follows from an event.  Stale events (old epoch, old timer) change nothing."""
    kernel = Kernel(state)
    effects = kernel.feed(event)
    return kernel.state(), effects


_NONE: Final[list[Any]] = []
"""What a kernel has of each list between its steps, for a list of its own takes memory; never changed."""


class Kernel:
    """A supervisor's state under way: ``step`` without building it anew for each event.

    ``Kernel(state).feed(event)`` *is* ``step``; a driver keeps the kernel and feeds it, since taking thousands
    of children apart and together again at each event would cost more than all decisions.
    """

    __slots__ = (
        "children",
        "effects",
        "ended",
        "ending",
        "leaving",
        "parting",
        "recent",
        "rules",
        "settled",
        "timers",
    )

    def __init__(self, state: State) -> None:
        self.rules = state.rules
        self.children = Roster(state.rules.strategy, state.children)
        self.recent = state.recent
        self.ending = state.ending
        self.settled = state.settled
        self.timers = state.timers
        self.ended = state.ended
        self.effects: list[Effect] = _NONE
        self.parting: list[str] = _NONE
        """Who is to be asked at once whether it is its turn or not, in this step."""
        self.leaving: list[str] = _NONE
        """Who may have to be forgotten at the end of this step."""

    def state(self) -> State:
        """The state as it is now, as a value."""
        return State(self.rules, tuple(self.children), self.recent, self.ending, self.settled, self.timers, self.ended)

    def feed(self, event: Event) -> tuple[Effect, ...]:
        """Apply one event, then do everything that has become possible."""
        if self.ended:
            return ()
        self.effects, self.parting, self.leaving = [], [], []
        getattr(self, _HANDLERS[type(event)])(event)
        if self.parting or self.children.doomed:
            self.stop_in_order()
        if self.ending is not None:
            self.ended = not self.children.alive
            if self.ended:
                self.effects.append(Ended(self.ending))
        else:
            if self.children.unarmed:
                self.arm_delays()
            self.start_in_order()
            if not self.settled:
                self.settle()
        if self.leaving:
            self.forget()
        effects = tuple(self.effects)
        self.effects = self.parting = self.leaving = _NONE
        return effects

    # -- events -------------------------------------------------------------------------------

    def begin(self, event: Begin) -> None:
        """Note who is there: ``start_in_order`` does the work."""
        for child in event.children:
            self.children.put(child)

    def ready(self, event: Ready) -> None:
        child = self.children.live(event.id, event.epoch)
        if child is None or child.state is not ChildState.STARTING:
            return
        proven = child.proven or child.after is None
        self.children.put(child.but(state=ChildState.READY, proven=proven, ready_at=event.now, trial=False))
        self.effects.append(Served(child.id))

    def exited(self, event: Exited) -> None:
        child = self.children.live(event.id, event.epoch)
        if child is None:
            return
        if child.after is not None:
            self.went_down(child)
        elif child.trial and event.how is not Exit.RETURNED:
            self.gone(child, Fate.FAILED)
        elif child.restart is Restart.TEMPORARY or (child.restart is Restart.TRANSIENT and event.how is Exit.RETURNED):
            self.gone(child, Fate.COMPLETED if event.how is Exit.RETURNED else Fate.FAILED)
            self.consider_auto_shutdown(child)
        elif event.how is Exit.FATAL:
            self.gone(child, Fate.ESCALATED)
            self.end(Ending.FATAL)
        else:
            self.failed(child, event)

    def stuck(self, event: Stuck) -> None:
        child = self.children.live(event.id, event.epoch)
        if child is not None and child.state is not ChildState.STUCK:
            self.children.put(child.but(state=ChildState.STUCK))
            self.effects.append(GotStuck(event.id))

    def timer_fired(self, event: TimerFired) -> None:
        child = self.children.get(event.id)
        if child is not None and child.state in HELD and child.timer == event.timer != 0:
            self.children.put(child.but(state=ChildState.NEW, timer=0, delay=0.0))

    def child_added(self, event: ChildAdded) -> None:
        if self.ending is None:
            before = self.children.get(event.child.id)
            self.children.put(event.child.but(static=before is not None and before.static))

    def stop_child(self, event: StopChild) -> None:
        child = self.children.get(event.id)
        if child is None:
            return
        if event.forget and child.static:
            child = child.but(static=False)
            self.children.put(child)
            self.leaving.append(child.id)
        if child.state in LIVE:
            self.children.put(child.but(after=After.LEAVE))
            self.parting.append(child.id)
        elif child.state not in FINAL:
            self.gone(child, Fate.STOPPED)

    def restart_child(self, event: RestartChild) -> None:
        child = self.children.get(event.id)
        if child is None:
            return
        if child.state in HELD and event.at_once:
            if child.timer:
                self.effects.append(Disarm(child.id))
            self.children.put(child.but(delay=0.0, timer=0))
        elif child.state in LIVE and child.after is None:
            delay = 0.0 if event.at_once else (child.backoff or self.rules.backoff).delay(child.streak, event.u)
            self.hold(child, delay, down=False)

    def shutdown(self, event: Shutdown) -> None:
        self.end(event.ending)

    # -- decisions ----------------------------------------------------------------------------

    def failed(self, child: Child, event: Exited) -> None:
        """A failure that calls for a restart: pay for it, and choose the delay."""
        limit, backoff = child.limit or self.rules.limit, child.backoff or self.rules.backoff
        served = None if child.ready_at is None else event.now - child.ready_at
        delay, streak = backoff.after_failure(child.streak, served, event.u)
        child = child.but(streak=streak)
        if limit.max_restarts is None:
            self.hold(child, delay, down=True)
            return
        recent = self.recent if child.limit is None else child.recent
        recent = tuple([at for at in recent if at > event.now - limit.within])
        if len(recent) < limit.max_restarts:
            self.hold(self.pay(child, (*recent, event.now)), delay, down=True)
            return
        self.effects.append(LimitHit(child.id))
        match limit.on_limit:
            case OnLimit.COOL_DOWN:
                self.hold(self.pay(child, ()), limit.cool_down, down=True, cooling=True)
            case OnLimit.STOP_CHILD:
                self.gone(child, Fate.FAILED)
                self.consider_auto_shutdown(child)
            case OnLimit.ESCALATE:
                self.gone(child, Fate.ESCALATED)
                self.end(Ending.LIMIT)

    def pay(self, child: Child, recent: tuple[float, ...]) -> Child:
        """Enter the restarts of late into the budget that a child lives on: its own, or its siblings'."""
        if child.limit is not None:
            return child.but(recent=recent)
        self.recent = recent
        return child

    def hold(self, root: Child, delay: float, *, down: bool, cooling: bool = False) -> None:
        """Start ``root`` again after a delay, and its group with it."""
        members = self.members(root.id)
        for member in members:
            delay, cooling = self.join_group(member, delay, cooling)
        alone = self.rules.strategy is Strategy.ONE_FOR_ONE
        root = root.but(delay=delay, timer=0, proven=root.proven and alone)
        if down:
            state = ChildState.COOLING_DOWN if cooling else ChildState.BACKING_OFF
            self.children.put(root.but(state=state, after=None, ready_at=None))
        else:
            self.children.put(root.but(after=After.HOLD))
            if alone:
                self.parting.append(root.id)
        self.effects.append(Held(root.id, delay, cooling))
        if members:
            self.effects.append(Grouped(root.id, tuple([member.id for member in members])))

    def members(self, root: str) -> list[Child]:
        """Who else is stopped and, unless TEMPORARY, restarted with this child; the finished are left in peace."""
        if self.rules.strategy is Strategy.ONE_FOR_ONE:
            return []
        place = self.children.place(root)
        assert place is not None
        above = place if self.rules.strategy is Strategy.REST_FOR_ONE else -1
        candidates = [self.children[other] for other in self.children.places(above=above) if other != place]
        return [child for child in candidates if child.state not in FINAL]

    def join_group(self, child: Child, delay: float, cooling: bool) -> tuple[float, bool]:
        """Make a sibling wait for the group's root; a delay of its own becomes the group's."""
        if child.state in HELD:
            delay = max(delay, child.delay)
            cooling = cooling or child.state is ChildState.COOLING_DOWN
            if child.timer:
                self.effects.append(Disarm(child.id))
            child = child.but(state=ChildState.NEW, delay=0.0, timer=0)
        elif child.state in LIVE and child.after is not After.LEAVE:
            delay = max(delay, child.delay)
            for_good = child.restart is Restart.TEMPORARY and child.after is None
            child = child.but(after=After.LEAVE if for_good else After.QUEUE, delay=0.0)
        self.children.put(child.but(proven=False))
        return delay, cooling

    def went_down(self, child: Child) -> None:
        """A child that had to go is gone, in whatever way; that is no failure."""
        match child.after:
            case After.LEAVE | None:
                self.gone(child, Fate.STOPPED)
            case After.QUEUE:
                self.children.put(child.but(state=ChildState.NEW, after=None, ready_at=None))
            case After.HOLD:
                self.children.put(child.but(state=ChildState.BACKING_OFF, after=None, ready_at=None))

    def gone(self, child: Child, fate: Fate) -> None:
        if child.timer:
            self.effects.append(Disarm(child.id))
        state = ChildState.COMPLETED if fate is Fate.COMPLETED else ChildState.STOPPED
        self.children.put(child.but(state=state, after=None, delay=0.0, timer=0, ready_at=None))
        self.leaving.append(child.id)
        self.effects.append(Gone(child.id, fate))

    def consider_auto_shutdown(self, child: Child) -> None:
        """Called when a child has ended by itself; one that was stopped triggers nothing."""
        wish = self.rules.auto_shutdown
        if not child.significant or wish is AutoShutdown.NEVER:
            return
        if wish is AutoShutdown.ANY_SIGNIFICANT or not self.children.significant:
            self.end(Ending.FINISHED)

    def end(self, ending: Ending) -> None:
        if self.ending is not None:
            return
        self.ending = ending
        self.effects.append(Closing(ending))
        for place in reversed(self.children.places()):
            child = self.children[place]
            if child.state in LIVE:
                self.children.put(child.but(after=After.LEAVE))
                if not self.children.ordered(child):
                    self.parting.append(child.id)
            elif child.state not in FINAL:
                self.gone(child, Fate.STOPPED)

    # -- what has become possible ---------------------------------------------------------------

    def stop_in_order(self) -> None:
        """Ask the youngest child that must go; its elders when it is gone.

        One that is stuck has been asked and cancelled: waiting longer for it helps nobody.
        """
        for id in self.parting:
            self.ask_to_stop(self.children.get(id))
        if self.children.doomed:
            self.ask_to_stop(self.children[self.children.doomed.last])

    def ask_to_stop(self, child: Child | None) -> None:
        """Ask a child that has to go, unless it was asked."""
        if child is not None and child.state in (ChildState.STARTING, ChildState.READY):
            self.children.put(child.but(state=ChildState.STOPPING))
            self.effects.append(AskToStop(child.id))

    def arm_delays(self) -> None:
        """Let a delay begin when everyone it concerns is down."""
        for place in tuple(self.children.unarmed):
            if not self.children.group_alive(place):
                child = self.children[place]
                self.timers += 1
                self.children.put(child.but(timer=self.timers))
                self.effects.append(Arm(child.id, self.timers, child.delay))

    def start_in_order(self) -> None:
        """Start whom nobody keeps waiting."""
        children = self.children
        while children.free:
            self.start(children[children.free.first])
        while children.queued:
            eldest = children.queued.first
            if children.unproven.reach_below(eldest) or children.group_going(eldest):
                return
            self.start(children[eldest])

    def start(self, child: Child) -> None:
        self.children.put(child.but(state=ChildState.STARTING, epoch=child.epoch + 1))
        self.effects.append(StartChild(child.id, child.epoch + 1, child.streak + 1))

    def settle(self) -> None:
        if all(self.children[at].trial for at in self.children.unproven):
            self.settled = True
            self.effects.append(Settled())

    def forget(self) -> None:
        """Drop the records of who is gone for good, but for those of the specification."""
        for id in self.leaving:
            place = self.children.place(id)
            if place is None:
                continue
            child = self.children[place]
            if child.state in FINAL and not child.static:
                self.children.drop(place)
                self.effects.append(Forgotten(id))


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
