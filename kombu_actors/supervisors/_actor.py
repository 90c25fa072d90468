"""What an actor sees of its supervisor (``ActorContext``) and others of the actor (``ActorRef``)."""

from __future__ import annotations

import contextvars
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import trio

from ._errors import ActorDown, AskTimeout, SpecError
from ._interrupts import protected
from ._mailbox import Envelope, Mailbox, MailboxReader
from ._monitor import Monitor
from ._outcome import Outcome, Stopped
from ._spec import Start, SupervisorSpec

if TYPE_CHECKING:
    from . import events as news
    from ._cell import Cell
    from ._incarnation import Incarnation
    from ._supervisor import SupervisorHandle
    from ._tree import Tree

inside: contextvars.ContextVar[tuple[tuple[object, str], ...]] = contextvars.ContextVar("inside", default=())
"""The actors the current task belongs to, as (tree, path), outermost first."""


class Hibernation:
    """What ``start`` returns when the actor lives on without a task; see ``ActorContext.hibernate``."""

    __slots__ = ("resume",)

    def __init__(self, resume: Start) -> None:
        self.resume = resume


@protected
class ActorContext:
    """Handed to ``ChildSpec.start``: who the actor is, and its words to its supervisor."""

    __slots__ = ("_incarnation", "_monitors", "_reader", "_stopping", "attempt", "epoch", "path", "previous")

    def __init__(
        self,
        incarnation: Incarnation,
        *,
        path: str,
        epoch: int,
        attempt: int,
        previous: Outcome | None,
        reader: MailboxReader | None,
    ) -> None:
        self.path = path
        """Ids from the root down, joined by ``/``; the root's own id is left out."""
        self.epoch = epoch
        """Which incarnation this is, from 1; +1 at every start."""
        self.attempt = attempt
        """1, or one more than the failures in a row before this start."""
        self.previous = previous
        """How the incarnation before ended; None at first."""
        self._incarnation = incarnation
        self._stopping: trio.Event | None = None
        self._reader = reader
        self._monitors: tuple[Monitor, ...] = ()

    @property
    def id(self) -> str:
        """The last part of its path: the id in its ``ChildSpec``; empty for the root."""
        return self.path.rpartition("/")[2]

    @property
    def stopping(self) -> trio.Event:
        """Set: drain now.  Cancellation follows after the grace."""
        if self._stopping is None:
            self._stopping = trio.Event()
            if self._incarnation.stop_reason is not None:
                self._stopping.set()
        return self._stopping

    @property
    def stop_reason(self) -> str:
        """Why it is asked to stop; "" while it isn't."""
        return self._incarnation.stop_reason or ""

    @property
    def mailbox(self) -> MailboxReader:
        """The actor's messages; raises ``SpecError`` when its spec gave it no mailbox."""
        if self._reader is None:
            raise SpecError(f"actor {self.path!r} has no mailbox; give its ChildSpec mailbox=<capacity>")
        return self._reader

    @property
    def supervisor(self) -> SupervisorHandle:
        """The supervisor above the actor, to start, stop and find its siblings."""
        node = self._incarnation.node
        return node.tree.handle(node.cell.path)

    def ref(self, path: str) -> ActorRef:
        """The address of the actor at a path from the root, be it there or not; ``ctx.ref(ctx.path)`` is its own."""
        return ActorRef(self._incarnation.node.tree, path)

    def monitor(self, ref: ActorRef) -> Monitor:
        """Watch another actor, or supervisor, of the tree: a ``Down`` in this actor's mailbox for each end of it.

        ``Down.gone`` says that it is gone for good; that is told at once when it already is.  Ends with
        ``Monitor.cancel`` and with this incarnation.  Raises ``SpecError`` when the actor has no mailbox.
        """
        tree = self._incarnation.node.tree
        if ref._tree is not tree:
            raise SpecError(f"{ref.path!r} is an actor of another tree than {self.path!r}, which can't watch it")
        monitor = Monitor(tree, ref.path, self.mailbox._mailbox)
        if self._incarnation.done is None:
            self._monitors = (*self._monitors, monitor)
        else:
            monitor.cancel()
        cell = tree.find(ref.path) or ref._known
        if cell is not None and cell.closed:
            monitor.tell(cell, cell.previous or Stopped("gone for good"))
        return monitor

    def ready(self, value: object = None) -> None:
        """Say that the actor serves; ``value`` is what ``ActorRef.value`` shows from now on.

        Also the way back from ``degraded``.  Ignored once the actor was asked to stop.
        """
        self._incarnation.said_ready(value)

    def degraded(self, why: str) -> None:
        """Say that the actor serves, but not well.  Visible; nothing is restarted for it."""
        self._incarnation.said_degraded(why)

    def until_stopping(self) -> AbstractContextManager[trio.CancelScope, bool]:
        """``with ctx.until_stopping():`` what the actor waits for in there is cancelled when it is asked to stop.

        The block ends then, and the actor drains: it has its grace yet.  At once when it was asked before.  To wait
        for one thing or the stop takes no second task this way.
        """
        return self._incarnation.until_stopping()

    def hibernate(self, resume: Start) -> Hibernation:
        """``return ctx.hibernate(self.resume)`` out of ``start``: the actor lives on without a task.

        For thousands of actors that only wait: a task and its scopes take some kilobytes.  When somebody calls
        ``wake``, or the actor is asked to stop, ``await resume(ctx)`` runs in a task of its own: how that ends is how
        the actor ends, unless it hibernates again.  What ``start`` would do in a ``finally`` behind its wait,
        ``resume`` does.
        """
        return Hibernation(resume)

    def wake(self) -> None:
        """End the hibernation; one that has not begun yet ends at once then.  A no-op when the actor is gone."""
        self._incarnation.wake()

    def last_words(self, seconds: float) -> AbstractContextManager[trio.CancelScope]:
        """``with ctx.last_words(2):`` what the actor does in there goes on for that long after it was cancelled.

        A goodbye to a peer, a last write.  A second interrupt, and the deadline of the whole tree, end it at once.
        """
        return self._incarnation.last_words(seconds)

    def report(self, kind: type[news.Event], **details: object) -> None:
        """Say what happened to the actor in its own terms: an ``Event`` of its own, with these fields.

        Listeners and ``events()`` hear it between the supervision events, in order.
        """
        self._incarnation.reported(kind, details)


@protected
class ActorRef:
    """The address of an actor, valid across its restarts and those of its supervisors.

    The actor need not be there yet: what can wait waits until it is.  Once it was there, its end for good is the end of
    that, until a child of the same path is started.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self._tree = tree
        self.path = path
        self._known = tree.find(path)

    def __repr__(self) -> str:
        return f"<ActorRef {self.path!r}>"

    def _cell(self) -> Cell | None:
        """The actor's place in the tree; None: nobody has been there yet."""
        cell = self._tree.find(self.path) or self._known
        if cell is None:
            self._tree.check_alive()
        elif cell.closed:
            raise ActorDown(f"actor {self.path!r} is gone for good: {cell.previous}")
        self._known = cell
        return cell

    async def _cell_when_there(self) -> Cell:
        while (cell := self._cell()) is None:
            await self._tree.arrival(self.path)
        return cell

    def _mailbox(self, cell: Cell) -> Mailbox:
        if cell.mailbox is not None:
            return cell.mailbox
        if isinstance(cell.spec, SupervisorSpec):
            raise SpecError(f"{self.path or cell.spec.id!r} is a supervisor; only actors have mailboxes")
        raise SpecError(f"actor {self.path!r} has no mailbox; give its ChildSpec mailbox=<capacity>")

    @property
    def value(self) -> Any:
        """What the living incarnation passed to ``ctx.ready``; raises ``ActorDown`` when none serves."""
        cell = self._cell()
        if cell is None or cell.live is None or not cell.is_ready():
            raise ActorDown(f"actor {self.path!r} is not READY now")
        return cell.live.value

    async def ask(self, message: object, *, timeout: float | None = 30.0) -> Any:
        """Send a message and wait for its answer, ``timeout`` seconds in all; None: as long as it takes.

        While the actor is down, or not there yet, the message waits.  Raises what the actor gave
        to ``envelope.fail``; ``ActorDown`` when it received the message and died, or is gone
        for good; ``AskTimeout``.  After a timeout or cancellation a message not received yet
        is withdrawn; one received may still be worked on.
        """
        if timeout is None:
            return await self._mailbox(await self._cell_when_there()).ask(message)
        with trio.move_on_after(timeout):
            return await self._mailbox(await self._cell_when_there()).ask(message)
        raise AskTimeout(f"actor {self.path!r} did not answer within {timeout:g} s{self._why_no_answer()}")

    def _why_no_answer(self) -> str:
        if self._known is None:
            return f", for nobody has started it; {self._tree.who_is_there()}"
        if (self._tree, self.path) in inside.get():
            return "; it asked itself, and whoever serves its mailbox can't wait for its own answer"
        return ""

    async def tell(self, message: object) -> None:
        """Send a message, waiting until the actor is there and while its mailbox is full.

        Raises ``ActorDown`` when it is gone for good.
        """
        await self._mailbox(await self._cell_when_there()).put(Envelope(message, wants_answer=False))

    def tell_nowait(self, message: object) -> None:
        """Send a message; raises ``MailboxFull`` when there is no room, ``ActorDown`` when nobody is there."""
        cell = self._cell()
        if cell is None:
            raise ActorDown(f"nobody has started {self.path!r} yet, and tell_nowait doesn't wait; tell does")
        self._mailbox(cell).put_nowait(Envelope(message, wants_answer=False))

    async def wait_ready(self) -> int:
        """Wait until the actor is READY and return its epoch; ``ActorDown`` when it is gone for good."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._tree.check_alive()
            cell = await self._cell_when_there()
            if cell.is_ready():
                return cell.epoch
            await cell.changed.park()

    async def wait_down(self, epoch: int) -> Outcome:
        """Wait until that incarnation is gone and return how it ended; at once if it already is.

        Of an incarnation before the last one only ``Stopped("replaced ...")`` is known.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            cell = self._tree.find(self.path) or self._known
            if cell is None:
                if self._tree.has_forgotten(self.path, epoch):
                    return Stopped("gone for good")
                await self._cell_when_there()
                continue
            if cell.epoch > epoch:
                return Stopped(f"replaced by epoch {cell.epoch}")
            if cell.epoch == epoch and cell.live is None and cell.previous is not None:
                return cell.previous
            if cell.closed:
                return cell.previous or Stopped("gone for good")
            live = cell.live
            if live is not None and cell.epoch == epoch:
                while live.done is None:
                    await cell.changed.park()
                return live.done
            await cell.changed.park()
