"""A living supervisor: feeds its kernel with what happens and carries out what it decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from . import events as news
from ._errors import ActorDown, ChildFailed, Escalation, UnexpectedReturn
from ._incarnation import Incarnation
from ._kernel import Kernel
from ._outcome import Failed, Failure, Outcome, Returned, Stopped
from ._policy import ChildState, Restart
from ._records import (
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
    Forgotten,
    Gone,
    GotStuck,
    Grouped,
    Held,
    LimitHit,
    Ready,
    Rules,
    Served,
    Settled,
    Shutdown,
    StartChild,
    State,
    Stuck,
    TimerFired,
)
from ._reports import report
from ._spec import ChildSpec, SupervisorSpec
from ._timers import Timer
from ._verdict import escalation, judge

if TYPE_CHECKING:
    from ._cell import Cell
    from ._tree import Tree

HISTORY = 32
"""Failures an escalation tells about: more than any sensible budget, few enough to read."""


class FirstStart:
    """Someone waits for a dynamic child to become READY for the first time."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.outcome: Outcome | None = None
        """How it went wrong; None: it is READY."""


class Node:
    """One incarnation of a supervisor.  Its kernel state changes in ``feed`` and nowhere else."""

    __slots__ = (
        "cell",
        "done",
        "down_since",
        "error",
        "first_starts",
        "history",
        "kernel",
        "nested",
        "parent",
        "reasons",
        "spec",
        "timers",
        "tree",
    )

    def __init__(self, tree: Tree, cell: Cell, spec: SupervisorSpec, parent: Node | None) -> None:
        self.tree = tree
        self.cell = cell
        self.spec = spec
        self.parent = parent
        self.kernel = Kernel(State(Rules(spec.strategy, spec.limit, spec.backoff, spec.auto_shutdown)))
        self.timers: dict[str, Timer] = {}
        self.history: tuple[Failure, ...] = ()
        self.down_since: dict[str, float] = {}
        self.first_starts: dict[str, FirstStart] = {}
        self.nested: dict[str, Node] = {}
        """The supervisors among the living children."""
        self.reasons: dict[str, str] = {}
        """Why children are asked to stop; under "" why all are."""
        self.error: Escalation | None = None
        self.done: Outcome | None = None

    # -- what happens ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Evaluate the children's specifications and start them."""
        try:
            specs = self.spec.child_specs()
        except Exception as error:
            message = f"supervisor {self.name!r} can't tell its children: {type(error).__name__}: {error}"
            self.give_up(ChildFailed(message, path=self.cell.path), error)
            return
        except BaseException as error:
            self.tree.check_panic(error)
            return
        wanted = {spec.id for spec in specs}
        for id in [id for id in self.cell.children if id not in wanted]:
            orphan = self.cell.children[id]
            orphan.close(self.tree, orphan.previous or Stopped("not brought back when its supervisor restarted"))
            self.cell.forget(id)
        children = tuple(self.record(spec, static=not callable(self.spec.children)) for spec in specs)
        self.feed(Begin(children))

    def record(self, spec: ChildSpec | SupervisorSpec, *, static: bool = False, trial: bool = False) -> Child:
        """The kernel's record of a child about to be started, and its cell."""
        cell = self.cell.adopt(self.tree, spec.id, spec)
        own = (spec.limit, spec.backoff) if isinstance(spec, ChildSpec) else (None, None)
        return Child(spec.id, spec.restart, spec.significant, static, trial, *own, ChildState.NEW, cell.epoch)

    def add(self, spec: ChildSpec | SupervisorSpec, first: FirstStart | None) -> None:
        """Start a dynamic child; ``first`` learns how its first start went, which is a trial then."""
        if first is not None:
            self.first_starts[spec.id] = first
        self.feed(ChildAdded(self.record(spec, trial=first is not None)))

    def child_ready(self, cell: Cell) -> None:
        self.feed(Ready(_id(cell), cell.epoch, trio.current_time()))

    def child_degraded(self, cell: Cell, why: str) -> None:
        self.emit(news.ChildDegraded, cell, why=why)
        self.tree.changed.unpark_all()

    def child_reported(self, cell: Cell, kind: type[news.Event], details: dict[str, object]) -> None:
        self.emit(kind, cell, **details)

    def child_stuck(self, cell: Cell) -> None:
        self.feed(Stuck(_id(cell), cell.epoch))

    def exited(self, cell: Cell, outcome: Outcome) -> None:
        """An incarnation of a child is gone."""
        id, now = _id(cell), trio.current_time()
        if isinstance(outcome, Returned):
            self.child_ready(cell)
        child, how, failed = self.child(id), Exit.RETURNED, None
        if isinstance(outcome, Returned) and child is not None and child.restart is Restart.PERMANENT:
            failed = Failed(UnexpectedReturn(f"child {cell.path!r} returned, though it is PERMANENT"))
        if isinstance(outcome, Failed):
            self.tree.check_panic(outcome.error)
            how = Exit.FAILED
            if child is not None and child.after is None:
                outcome, how = judge(self.spec, outcome)
                self.tree.check_panic(outcome.error)
            failed = outcome
        if failed is not None:
            self.note_failure(cell, failed)
        cell.live, cell.previous = None, outcome
        self.nested.pop(id, None)
        self.down_since.setdefault(id, now)
        effects = self.kernel.feed(Exited(id, cell.epoch, how, now, self.tree.rng.random()))
        if failed is not None and child is not None:
            report(self, child, failed, effects)
        self.announce_exit(cell, outcome)
        self.carry_out(effects, cell)
        if not cell.closed:  # else its watchers were told so
            self.tree.went_down(cell, outcome)
        cell.changed.unpark_all()

    def note_failure(self, cell: Cell, failed: Failed) -> None:
        cell.failure = Failure(path=cell.path, epoch=cell.epoch, at=trio.current_time(), error=failed.whole())
        self.history = (*self.history, cell.failure)[-HISTORY:]

    def ask_to_stop(self, reason: str, *, was_ready: bool) -> None:
        """The parent's wish; ready or not, a supervisor stops its children in order."""
        self.tree.later(self.shut_down, reason)

    def shut_down(self, reason: str) -> None:
        self.reasons.setdefault("", reason)
        self.feed(Shutdown())

    def give_up(self, error: Escalation, cause: BaseException) -> None:
        """Stop in order and fail."""
        error.__cause__ = cause
        if self.error is None:
            self.error = error
        self.feed(Shutdown(Ending.FATAL))

    # -- what is decided ------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        self.carry_out(self.kernel.feed(event), None)

    def carry_out(self, effects: tuple[Effect, ...], exited: Cell | None) -> None:
        """Carry out the kernel's decisions; ``exited`` is the child whose end led to them."""
        for effect in effects:
            match effect:
                case StartChild(id, epoch, attempt):
                    self.start(id, epoch, attempt)
                case AskToStop(id):
                    self.stop(id)
                case Arm(id, token, delay):
                    self.arm(id, token, delay)
                case Disarm(id):
                    self.disarm(id)
                case Gone(id, fate):
                    own = exited is not None and _id(exited) == id
                    self.gone(id, fate.value, exited.previous if own and exited is not None else None)
                case Forgotten(id):
                    self.forgotten(id)
                case Ended(ending):
                    self.ended(ending)
                case Settled() if self.parent is not None:
                    self.tree.later(self.parent.child_ready, self.cell)
                case Served(id):
                    self.served(id)
                case GotStuck(id):
                    live = self.cell.children[id].live
                    stack = live.stack() if isinstance(live, Incarnation) else ()
                    self.emit(news.ChildStuck, self.cell.children[id], stack=stack)
                case Held(id, delay, cooling):
                    kind = news.CoolingDown if cooling else news.ChildBackingOff
                    next_at = trio.current_time() + delay
                    self.emit(kind, self.cell.children[id], delay=delay, next_at=next_at)
                case Grouped(root, members):
                    self.reasons.update(dict.fromkeys(members, f"{root!r} is restarted, and its group with it"))
                    self.emit(news.GroupRestarted, self.cell, root=root, members=members)
                case LimitHit(id):
                    self.emit(news.LimitReached, self.cell.children[id])
                case Closing(ending):
                    self.closing(ending, exited)
        self.tree.changed.unpark_all()

    def start(self, id: str, epoch: int, attempt: int) -> None:
        cell = self.cell.children[id]
        cell.restarts += cell.epoch > 0 and cell.previous is not None
        cell.epoch = epoch
        self.reasons.pop(id, None)
        self.emit(news.ChildStarting, cell)
        if isinstance(cell.spec, ChildSpec):
            incarnation = Incarnation(self, cell, cell.spec, attempt)
            cell.live = incarnation
            incarnation.begin()
        else:
            node = cell.live = self.nested[id] = Node(self.tree, cell, cell.spec, self)
            self.tree.later(node.begin)
        cell.changed.unpark_all()

    def stop(self, id: str) -> None:
        cell, child = self.cell.children[id], self.child(id)
        assert cell.live is not None
        assert child is not None
        asked = self.reasons.pop(id, "stopped")
        reason = self.reasons.get("", asked) if self.kernel.ending is not None else asked
        cell.live.ask_to_stop(reason, was_ready=child.ready_at is not None)
        cell.changed.unpark_all()

    def arm(self, id: str, token: int, delay: float) -> None:
        def fire() -> None:
            self.timers.pop(id, None)
            self.tree.later(self.feed, TimerFired(id, token))

        timer = self.timers[id] = Timer(trio.current_time() + delay, fire)
        if delay > 0.0:
            self.tree.timers.add(timer)
        else:
            self.tree.later(timer.fire)

    def disarm(self, id: str) -> None:
        timer = self.timers.pop(id, None)
        if timer is not None:  # else it has just fired; the kernel knows that step, which is yet to come, for stale
            timer.cancel()

    def served(self, id: str) -> None:
        cell = self.cell.children[id]
        if isinstance(cell.live, Incarnation):
            cell.live.serves()
        first = self.first_starts.pop(id, None)
        if first is not None:
            first.over.set()
        self.emit(news.ChildReady, cell)
        since = self.down_since.pop(id, None)
        if since is not None:
            self.emit(news.ChildRestarted, cell, downtime=trio.current_time() - since)
        cell.changed.unpark_all()

    def gone(self, id: str, fate: str, outcome: Outcome | None) -> None:
        """Gone for good, unless this supervisor is itself being restarted: then its parent knows."""
        cell = self.cell.children[id]
        ending = self.kernel.ending is not None
        outcome = outcome or Stopped(self.reasons.get("" if ending else id, "stopped"))
        cell.previous = outcome
        self.down_since.pop(id, None)
        self.reasons.pop(id, None)
        first = self.first_starts.pop(id, None)
        if first is not None:
            first.outcome = outcome
            first.over.set()
        if ending and self.parent is not None:
            return
        self.emit(news.ChildGone, cell, fate=fate)
        cell.close(self.tree, outcome)

    def forgotten(self, id: str) -> None:
        """Its id is free, unless this supervisor is being restarted, which may bring it back."""
        if self.cell.children[id].closed:
            self.cell.forget(id)

    def closing(self, ending: Ending, exited: Cell | None) -> None:
        if ending in (Ending.LIMIT, Ending.FATAL) and self.error is None:
            assert exited is not None
            assert exited.failure is not None
            own = exited.spec.limit if isinstance(exited.spec, ChildSpec) else None
            self.error = escalation(self.spec, self.cell.path, ending, exited.failure, self.history, own)
        if self.error is not None:
            self.emit(news.Escalated, self.cell, error=self.error, history=self.error.history)
        reason = self.reasons.setdefault("", "it gave up" if self.error else "its significant children are done")
        self.emit(news.SupervisorStopping, self.cell, reason=reason)
        if self.parent is None:
            self.tree.closing(self.error)

    def ended(self, ending: Ending) -> None:
        for first in self.first_starts.values():
            first.outcome = Stopped("its supervisor has ended")
            first.over.set()
        self.emit(news.SupervisorStopped, self.cell)
        outcome: Outcome
        if self.error is not None:
            outcome = Failed(self.error)
        else:
            outcome = Returned() if ending is Ending.FINISHED else Stopped(self.reasons.get("", "stopped"))
        self.done = outcome
        if self.parent is not None:
            self.tree.later(self.parent.exited, self.cell, outcome)
        else:
            self.tree.ended(outcome)

    # -- what is known ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.cell.path or self.spec.id

    @property
    def value(self) -> None:
        """A supervisor says ready without a value."""
        return None

    def child(self, id: str) -> Child | None:
        return self.kernel.children.get(id)

    def child_state(self, id: str) -> ChildState:
        """A READY child that is about to be stopped counts as STOPPING: don't rely on it."""
        child = self.child(id)
        if child is None:
            return ChildState.STOPPED
        return ChildState.STOPPING if child.state is ChildState.READY and child.after is not None else child.state

    def state(self) -> ChildState:
        if self.parent is not None:
            return self.parent.child_state(_id(self.cell))
        if self.kernel.ended:
            return ChildState.STOPPED
        if self.kernel.ending is not None:
            return ChildState.STOPPING
        return ChildState.READY if self.kernel.settled else ChildState.STARTING

    def serves(self) -> bool:
        """Whether every child that isn't done serves, all the way down."""
        kernel = self.kernel
        if kernel.ending is not None or not kernel.settled or kernel.children.restless:
            return False
        return all(node.serves() for node in self.nested.values())

    def check_open(self) -> None:
        """Raise ``ActorDown`` when this supervisor takes no more children."""
        if self.kernel.ending is not None:
            raise ActorDown(f"supervisor {self.name!r} is stopping: {self.reasons.get('', 'stopped')}")

    def budget_left(self, child: Child | None = None) -> int | None:
        """Restarts left in the window of the budget that this child, or any, lives on; None: any number."""
        limit, recent = self.spec.limit, self.kernel.recent
        if child is not None and child.limit is not None:
            limit, recent = child.limit, child.recent
        if limit.max_restarts is None:
            return None
        oldest = trio.current_time() - limit.within
        return limit.max_restarts - sum(at > oldest for at in recent)

    def announce_exit(self, cell: Cell, outcome: Outcome) -> None:
        match outcome:
            case Failed(error=error):
                self.emit(news.ChildFailed, cell, error=error)
            case Stopped(reason=reason):
                self.emit(news.ChildStopped, cell, reason=reason)
            case Returned():
                child = self.child(_id(cell))
                done = child is None or child.state is ChildState.COMPLETED
                self.emit(news.ChildCompleted if done else news.ChildReturned, cell)

    def emit(self, kind: type[news.Event], cell: Cell, **details: object) -> None:
        if not self.tree.watched:
            return
        child = self.child(_id(cell)) if cell is not self.cell else None
        starting = kind in (news.ChildStarting, news.ChildReady)
        attempt = 0 if child is None else child.streak + starting
        self.tree.emit(
            kind, path=cell.path, epoch=cell.epoch, attempt=attempt, budget_left=self.budget_left(child), **details
        )


def _id(cell: Cell) -> str:
    return cell.spec.id
