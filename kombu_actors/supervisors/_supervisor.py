"""The public face of a running tree: ``open_supervisor``, its handles and its event stream."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from functools import partial

import trio

from ._actor import ActorRef, inside
from ._errors import ActorDown, ChildStartError, SelfStop, SpecError, UnknownChild
from ._interrupts import guarded, interrupt_in, protected
from ._lots import Lot
from ._node import FirstStart, Node
from ._outcome import Failed, Outcome, Stopped
from ._policy import FINAL, check_seconds
from ._records import RestartChild, StopChild
from ._spec import ChildSpec, SupervisorSpec
from ._stream import EventStream
from ._tree import Listener, Tree
from ._views import ChildView, look_at


@protected
class SupervisorHandle:
    """Dynamic operations on one supervisor of the tree; the path is looked up at each call.

    Raises ``ActorDown`` while that supervisor is down or stopping.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self._tree = tree
        self.path = path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    async def start_child(self, spec: ChildSpec | SupervisorSpec) -> ActorRef:
        """Start a child beyond the specified ones and return when it is READY.

        The id of a child of the specification that was stopped, or is done, names that child: the new one takes its
        place in the order of starts and stops, until the supervisor restarts and starts the specified one.  Anyone else
        is started after, and stopped before, those that are here.

        Raises ``SpecError`` when the spec doesn't fit or the id is taken, and
        ``ChildStartError`` when its first start fails; then the child is gone and no restart
        was spent.  Cancelled while it starts: the child is removed.  It is forgotten when
        it is gone for good, and when this supervisor restarts (see ``SupervisorSpec.children``).
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        node = self._node_for(spec)
        first = FirstStart()
        self._tree.later(node.add, spec, first)
        try:
            await first.over.wait()
        except BaseException:
            self._tree.later(self._withdraw, node, spec.id)
            raise
        path = self._below(spec.id)
        match first.outcome:
            case None:
                return ActorRef(self._tree, path)
            case Failed(error=error) as failed:
                raise ChildStartError(path, f"{type(error).__name__}: {error}") from failed.whole()
            case other:
                raise ChildStartError(path, str(other))

    def start_child_nowait(self, spec: ChildSpec | SupervisorSpec) -> None:
        """``start_child`` without waiting: a first start that fails is a failure as any other, and restarts follow.

        Raises ``SpecError`` when the spec doesn't fit or the id is taken.
        """
        self._tree.later(self._node_for(spec).add, spec, None)

    def _node_for(self, spec: ChildSpec | SupervisorSpec) -> Node:
        """The supervisor, if it can start that child."""
        node = self._node()
        node.check_open()
        node.spec.check_child(spec)
        child = node.child(spec.id)
        if child is not None and child.state not in FINAL:
            raise SpecError(f"supervisor {node.name!r} already has a child named {spec.id!r} ({child.state.value})")
        return node

    async def stop_child(self, id: str, *, reason: str = "stop_child") -> Outcome:
        """Stop a child for good and wait until it is gone; return how it ended.

        No sibling is touched.  Returns at once when it is gone already.  A child of the
        specification stays visible as STOPPED, until its supervisor restarts and starts it
        again.  Cancelled: the stop goes on.
        Raises ``UnknownChild``, and ``SelfStop`` inside the child itself.
        """
        return await self._stop(id, reason, forget=False)

    async def remove_child(self, id: str, *, reason: str = "remove_child") -> Outcome:
        """As ``stop_child``; the record of the child goes too, and its id is free."""
        return await self._stop(id, reason, forget=True)

    def remove_child_nowait(self, id: str, *, reason: str = "remove_child") -> None:
        """Ask for ``remove_child`` without waiting until the child is gone; raises ``UnknownChild``."""
        node = self._node()
        if node.child(id) is None:
            raise _unknown(node, id)
        node.reasons[id] = reason
        self._tree.later(node.feed, StopChild(id, True))

    async def restart_child(self, id: str, *, reason: str = "restart_child", now: bool = True) -> None:
        """Have a child restarted, TEMPORARY or not, and its group by the strategy; costs nothing of the budget.

        Returns when the restart has begun, not when the child is READY (``ActorRef.wait_ready``).
        ``now`` cuts a backoff or cool down short; else the backoff's delay applies.  Does
        nothing for a child that is on its way up or down already.  Raises ``UnknownChild``,
        and ``ActorDown`` when the child is gone for good.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        node = self._node()
        node.check_open()
        child = node.child(id)
        if child is None:
            raise _unknown(node, id)
        if child.state in FINAL:
            raise ActorDown(
                f"child {id!r} of supervisor {node.name!r} is {child.state.value}; start_child starts it again"
            )
        node.reasons[id] = reason
        self._tree.later(node.feed, RestartChild(id, now, self._tree.rng.random()))

    def ref(self, path: str) -> ActorRef:
        """The address of the actor at a path below this supervisor; it need not be there yet."""
        return ActorRef(self._tree, self._below(path))

    def nested(self, path: str) -> SupervisorHandle | None:
        """The supervisor at a path below this one; None when none is running there now."""
        below = self._below(path)
        cell = self._tree.find(below)
        return SupervisorHandle(self._tree, below) if cell is not None and isinstance(cell.live, Node) else None

    def _below(self, path: str) -> str:
        return f"{self.path}/{path}" if self.path and path else self.path or path

    def children(self) -> tuple[str, ...]:
        """The ids of the children, in start order."""
        return tuple(child.id for child in self._node().kernel.children)

    async def _stop(self, id: str, reason: str, *, forget: bool) -> Outcome:
        await trio.lowlevel.checkpoint_if_cancelled()
        node = self._node()
        child = node.child(id)
        if child is None:
            raise _unknown(node, id)
        cell = node.cell.children[id]
        _check_not_inside(self._tree, cell.path)
        if child.state not in FINAL:
            node.reasons[id] = reason
        self._tree.later(node.feed, StopChild(id, forget))
        # A supervisor that restarts meanwhile starts the children of its specification again.
        leaving = cell.live
        while leaving is not None and cell.live is leaving:
            await cell.changed.park()
        return cell.previous or Stopped(reason)

    @staticmethod
    def _withdraw(node: Node, id: str) -> None:
        node.first_starts.pop(id, None)
        node.feed(StopChild(id, True))

    def _node(self) -> Node:
        cell = self._tree.find(self.path)
        node = cell.live if cell is not None else None
        if isinstance(node, Node):
            return node
        raise ActorDown(f"supervisor {self.path or self._tree.root.spec.id!r} is not running now")


@protected
class Supervisor(SupervisorHandle):
    """A running tree, seen from its root."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree, "")

    async def wait_ready(self, path: str = "") -> None:
        """Wait until the node at the path, and all below it, serve; ``""`` is the whole tree.

        Children that are done or stopped for good don't count; a node that doesn't exist yet is
        waited for.  Raises the ``Escalation`` that
        ends the tree, ``ActorDown`` when it has stopped or the child is gone for good.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._tree.serves(path):
            await self._tree.changed.park()

    @property
    def gives_up(self) -> bool:
        """Whether the tree has escalated, from the decision on: its children may be stopping still.  Any thread."""
        return self._tree.escalation is not None

    async def wait_stopped(self) -> None:
        """Wait until the tree has stopped, for whatever reason; raises its ``Escalation``."""
        await self._tree.over.wait()
        if self._tree.escalation is not None:
            raise self._tree.escalation

    async def stop(self, *, reason: str = "stop") -> None:
        """Stop the whole tree in order and wait for it.  Cancelled: the stop goes on.

        The block goes on too; leaving it has nothing left to do.
        """
        _check_not_inside(self._tree, "")
        self._tree.later(self._tree.root.shut_down, reason)
        await self._tree.over.wait()

    def snapshot(self) -> ChildView:
        """The tree as it is now; immutable, ``to_dict()`` makes it JSON-able."""
        return look_at(self._tree.root)

    @guarded
    async def events(self, capacity: int = 256, lot: Lot | None = None) -> AsyncIterator[EventStream]:
        """What happens from now on, up to ``capacity`` unread events; another event loop reads it with a ``lot``."""
        if capacity < 1:
            raise SpecError(f"capacity must be at least 1, not {capacity!r}")
        stream, tree = EventStream(capacity, lot), self._tree
        tree.listeners.append(stream.push)
        tree.streams.append(stream)
        if tree.over.is_set():
            stream.end()
        try:
            yield stream
        finally:
            tree.listeners.remove(stream.push)
            tree.streams.remove(stream)
            stream.end()


@guarded
async def open_supervisor(
    spec: SupervisorSpec,
    *,
    deadline: float = 25.0,
    listener: Listener | None = None,
    rng: random.Random | None = None,
    expected: Callable[[BaseException], bool] | None = None,
) -> AsyncIterator[Supervisor]:
    """Run a supervision tree while the block runs.

    The block is entered when the first children are being started; ``wait_ready`` waits for
    them.  Leaving it, by whatever way, stops the children in reverse order: each gets its
    grace, all together ``deadline`` seconds (25: within a container's usual 30), after which
    everyone left is cancelled.  An outer cancellation reaches the block first and the children
    only through that ordered stop; children that are not READY yet are cancelled at once.
    trio has no kill: a child that defies cancellation is reported STUCK and waited for.

    When the root supervisor gives up, the block is cancelled and exactly one bare exception is
    raised: ``RestartLimitExceeded`` or ``ChildFailed``, its ``__cause__`` the last failure.

    Ctrl-C, wherever it strikes, ends the block, has the children stopped in order and is raised bare.
    The next one ends that stop at once: whoever is left is cancelled without grace.  (trio tells the main
    task of it, or whoever it interrupts; a tree whose block is neither has its ``deadline``.)

    Each failure is logged once, to ``kombu_actors.supervisors``, by the supervisor that decides about it and with what
    it decided: a crash as an ERROR with its traceback, and what ``expected(error)``, asked with the root cause, knows
    for the world's doing (an outage, say) as an INFO in one line.  None: nothing is expected.

    ``listener`` gets every event, synchronously in the trio thread; ``rng`` draws the jitter.
    """
    check_seconds("deadline", deadline)
    if not isinstance(spec, SupervisorSpec):
        raise SpecError(f"open_supervisor takes a SupervisorSpec, whose children are the actors, not {spec!r}")
    tree = Tree(spec, deadline, rng or random.Random(), expected)
    tree.handle = partial(SupervisorHandle, tree)
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            tree.nursery = nursery
            if listener is not None:
                tree.listeners.append(listener)
            nursery.start_soon(tree.timers.run)
            tree.later(tree.root.begin)
            try:
                with tree.block:
                    yield Supervisor(tree)
            except BaseException as error:
                failure = error
            if (interrupt := interrupt_in(failure)) is not None:
                tree.interrupted(interrupt)
            tree.later(tree.root.shut_down, "the block was left")
            await _wait_over(tree)
            tree.timers.close()
    except BaseException as error:
        # Only a cancellation or an interrupt in the last moment, when nothing is left to be stopped.
        failure = error if failure is None else failure
        if (interrupt := interrupt_in(error)) is not None:
            tree.interrupted(interrupt)
    raise_end(tree, failure)


async def _wait_over(tree: Tree) -> None:
    """Wait for the ordered stop; whoever interrupts that hears of it when it is over."""
    while not tree.over.is_set():
        try:
            with trio.CancelScope(shield=True):
                await tree.over.wait()
        except KeyboardInterrupt as interrupt:
            tree.interrupted(interrupt)


def raise_end(tree: Tree, failure: BaseException | None) -> None:
    """Raise the one exception that says why the block is over."""
    if tree.interrupt is not None:
        if tree.interrupt.__context__ is None:
            tree.interrupt.__context__ = tree.escalation or failure
        raise tree.interrupt
    if tree.panic is not None:
        raise tree.panic
    if tree.escalation is not None:
        if failure not in (None, tree.escalation) and not isinstance(failure, trio.Cancelled):
            tree.escalation.add_note(f"the block also raised {type(failure).__name__}: {failure}")
        raise tree.escalation
    if failure is not None:
        raise failure


def _unknown(node: Node, id: str) -> UnknownChild:
    return UnknownChild(f"supervisor {node.name!r} has no child named {id!r}")


def _check_not_inside(tree: Tree, path: str) -> None:
    """Raise ``SelfStop`` when the current task belongs to what it wants to see stopped."""
    for other, own in inside.get():
        if other is tree and (not path or own == path or own.startswith(path + "/")):
            raise SelfStop(
                f"actor {own!r} asked to stop {path or 'the whole tree'!r}, which it is a part of, and would wait for "
                "itself; return from its start instead, or let someone outside ask"
            )
