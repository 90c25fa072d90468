"""What all supervisors of one tree share: the nursery, the clock's timers, the queue, the listeners."""

from __future__ import annotations

import contextvars
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from .._logs import get_logger
from . import events as news
from ._cell import Cell
from ._errors import ActorDown, ChildFailed, Escalation
from ._incarnation import Incarnation
from ._interrupts import came_after_another, protected, unprotected
from ._lots import Changes
from ._monitor import Monitor
from ._node import Node
from ._outcome import Outcome
from ._policy import ChildState
from ._records import Shutdown
from ._spec import SupervisorSpec
from ._stream import EventStream
from ._timers import Timers

if TYPE_CHECKING:
    from ._supervisor import SupervisorHandle

Listener = Callable[[news.Event], None]

log = get_logger("kombu_actors.supervisors")


@protected
class Tree:
    """The root of a running supervision tree.  Everything happens in one trio thread, one step at a time."""

    nursery: trio.Nursery
    handle: Callable[[str], SupervisorHandle]
    """How actors reach the supervisor at a path.  Both are set before the first step."""

    def __init__(
        self,
        spec: SupervisorSpec,
        deadline: float,
        rng: random.Random,
        expected: Callable[[BaseException], bool] | None,
    ) -> None:
        self._expected = expected
        self.deadline = deadline
        self.rng = rng
        self.timers = Timers()
        self.listeners: list[Listener] = []
        self.monitors: dict[str, dict[Monitor, None]] = {}
        """Who watches which path; in order, and mostly nobody."""
        self.changed = Changes()
        self.over = trio.Event()
        self.streams: list[EventStream] = []
        """Those that read what happens here, to be ended with it."""
        self.block = trio.CancelScope()
        self.escalation: Escalation | None = None
        self.panic: BaseException | None = None
        """What ends the tree whatever its rules say: raised out of the block before anything else."""
        self.interrupt: KeyboardInterrupt | None = None
        """The last interrupt, wherever it struck."""
        self.root = Node(self, Cell(self, "", spec, 0), spec, None)
        self.root.cell.epoch = 1
        self.root.cell.live = self.root
        self._context = contextvars.copy_context()
        self._queue: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._busy = False
        self._awaited: dict[str, trio.lowlevel.ParkingLot] = {}
        """Who waits for a child that nobody has started yet."""

    def later(self, call: Callable[..., None], *args: object) -> None:
        """Run a step after the one under way; now, if none is.  Steps never interleave."""
        self._queue.append((call, args))
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                call, args = self._queue.popleft()
                call(*args)
        except BaseException as error:
            # A bug in here, or in a backoff from outside.  Nothing can be decided any more, so
            # ``_busy`` stays set and no further step runs; but nobody may wait for ever either.
            self._abandon(error)
        else:
            self._busy = False

    def spawn(self, life: Callable[[], Awaitable[None]]) -> None:
        """Start an actor's task, with the context variables of whoever opened the tree."""
        self._context.run(self.nursery.start_soon, life)  # which gives each task a copy

    # -- lookups ------------------------------------------------------------------------------

    def find(self, path: str) -> Cell | None:
        cell: Cell | None = self.root.cell
        for id in path.split("/") if path else ():
            cell = cell.children.get(id) if cell is not None else None
        return cell

    def cells(self) -> list[Cell]:
        """Every cell of the tree, parents before children."""
        found = [self.root.cell]
        for cell in found:
            found.extend(cell.children.values())
        return found

    async def arrival(self, path: str) -> None:
        """Wait until somebody may be at a path where nobody has been."""
        lot = self._awaited.setdefault(path, trio.lowlevel.ParkingLot())
        try:
            await lot.park()
        finally:
            if not lot and self._awaited.get(path) is lot:
                del self._awaited[path]

    def arrived(self, path: str) -> None:
        """Somebody is there now."""
        if path in self._awaited:
            self._awaited.pop(path).unpark_all()

    def went_down(self, cell: Cell, outcome: Outcome) -> None:
        """Tell whoever watches that an incarnation has ended, or that none will come."""
        for monitor in tuple(self.monitors.get(cell.path, ())):
            monitor.tell(cell, outcome)

    def who_is_there(self) -> str:
        """The paths of the tree in words, for whoever has mistyped one."""
        paths = [cell.path for cell in self.cells()[1:]]
        if not paths:
            return "the tree has no children"
        more = f" and {len(paths) - 10} more" if len(paths) > 10 else ""
        return f"there are {', '.join(map(repr, paths[:10]))}{more}"

    def has_forgotten(self, path: str, epoch: int) -> bool:
        """Whether an incarnation of that epoch may have been there, of a child that is gone for good."""
        parent = self.find(path.rpartition("/")[0])
        return parent is None or parent.closed or epoch <= parent.epoch_floor

    def check_alive(self) -> None:
        """Raise what ended the tree, if it has ended or is about to."""
        if self.escalation is not None:
            raise self.escalation
        if self.root.kernel.ended or self.over.is_set():
            raise ActorDown(f"the supervision tree {self.root.spec.id!r} has stopped")

    # -- the end --------------------------------------------------------------------------------

    def closing(self, error: Escalation | None) -> None:
        """The root begins to stop: the clock of the deadline runs."""
        if self.deadline < float("inf"):
            self.timers.at(trio.current_time() + self.deadline, self._deadline_passed)
        if error is not None:
            self.escalation = error
            self.changed.unpark_all()
            self.block.cancel(reason=str(error))

    def ended(self, outcome: Outcome) -> None:
        self.root.cell.close(self, outcome)
        self.root.cell.live = None
        self._tell_all()

    def check_panic(self, error: BaseException) -> None:
        """KeyboardInterrupt, SystemExit and their like end the tree, whatever its rules say."""
        if isinstance(error, Exception):
            return
        if self.panic is None:
            self.panic = error
            self.later(self.root.shut_down, repr(error))
            self.block.cancel(reason=repr(error))
        if isinstance(error, KeyboardInterrupt):
            self.interrupted(error)

    def interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """The first interrupt has the tree stopped in order; the next one ends that stop at once."""
        earlier, self.interrupt = self.interrupt, interrupt
        if earlier is interrupt:
            return
        if interrupt.__context__ is None:
            interrupt.__context__ = earlier
        if earlier is not None or came_after_another(interrupt):
            self.later(self._cancel_all, "interrupted again")

    def _abandon(self, error: BaseException) -> None:
        """Cancel everybody at once, in no order, and let the block raise the error."""
        self.panic = error
        for cell in self.cells():
            cell.changed.unpark_all()
            if isinstance(cell.live, Incarnation):
                cell.live.abandon(repr(error))
        self.block.cancel(reason=repr(error))
        self._tell_all()

    def _tell_all(self) -> None:
        """Nothing happens here any more: wake whoever waits for something."""
        self.changed.unpark_all()
        for path in tuple(self._awaited):
            self.arrived(path)
        self.over.set()
        for stream in self.streams:
            stream.end()

    def call_on_exit(self, path: str, on_exit: Callable[[Outcome], None], outcome: Outcome) -> None:
        try:
            unprotected(on_exit, outcome)
        except Exception as error:
            crash = ChildFailed(f"on_exit of child {path!r} raised {type(error).__name__}: {error}", path="")
            if self.escalation is None:
                crash.__cause__ = error
                self.root.error = self.root.error or crash
                self.escalation = crash
                self.block.cancel(reason=str(crash))
                self.later(self.root.feed, Shutdown())
            else:
                self.escalation.add_note(str(crash))
        except BaseException as error:
            self.check_panic(error)

    def _deadline_passed(self) -> None:
        self.later(self._stop_took_too_long)

    def _stop_took_too_long(self) -> None:
        left = tuple(cell.path for cell in self.cells() if isinstance(cell.live, Incarnation))
        if not left:
            return
        root = self.root
        self.emit(news.DeadlinePassed, path="", epoch=1, attempt=0, budget_left=root.budget_left(), left=left)
        self._cancel_all(f"the stop took longer than its deadline of {self.deadline:g} s")

    def _cancel_all(self, reason: str) -> None:
        """No more patience: everyone at once, and nobody is started again."""
        live = [cell.live for cell in self.cells() if cell.live is not None]
        for actor in live:
            if isinstance(actor, Node):
                actor.shut_down(reason)
        for actor in live:
            if isinstance(actor, Incarnation):
                actor.cancel_now(reason)

    def expects(self, error: BaseException) -> bool:
        """Whether an error is the world's doing, by what the tree's owner knows."""
        if self._expected is None:
            return False
        try:
            return unprotected(self._expected, error)
        except Exception:
            log.exception("the tree's rule of what is expected failed on %r", error)
            return False
        except BaseException as panic:
            self.check_panic(panic)
            return False

    # -- news -----------------------------------------------------------------------------------

    @property
    def watched(self) -> bool:
        return bool(self.listeners)

    def emit(self, kind: type[news.Event], **details: Any) -> None:
        event = kind(at=trio.current_time(), wall=time.time(), **details)
        for listener in tuple(self.listeners):
            try:
                unprotected(listener, event)
            except Exception:
                # An observer must not harm what it observes; it is reported and heard no more.
                self.listeners.remove(listener)
                log.exception("a listener failed on %r and was removed", event)
            except BaseException as error:
                self.check_panic(error)

    def reply_dropped(self, cell: Cell, count: int) -> None:
        parent = self.find(cell.path.rpartition("/")[0])
        if parent is not None and isinstance(parent.live, Node):
            parent.live.emit(news.ReplyDropped, cell, count=count)

    def serves(self, path: str) -> bool:
        """Whether the node at the path serves, with everything below it; raises when it never will."""
        self.check_alive()
        if not path:
            return self.root.serves()
        cell = self.find(path)
        if cell is not None and cell.closed:
            raise ActorDown(f"{path!r} is gone for good: {cell.previous}")
        if cell is None or not cell.is_ready():
            return False
        return not isinstance(cell.live, Node) or cell.live.serves()

    def state(self, cell: Cell) -> ChildState:
        return cell.live.state() if cell.live is not None else ChildState.STOPPED
