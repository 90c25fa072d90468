"""What an actor sees of its supervisor (``ActorContext``) and others of the actor (``ActorRef``)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import trio

from ._errors import ActorDown, SpecError
from ._interrupts import protected
from ._mailbox import Envelope, Inbox, Mailbox
from ._outcome import Outcome, Stopped

if TYPE_CHECKING:
    from . import events as news
    from ._cell import Cell
    from ._incarnation import Incarnation
    from ._tree import Tree


@protected
class ActorContext:
    """Handed to ``ChildSpec.start``: who the actor is, and its words to its supervisor."""

    def __init__(
        self,
        incarnation: Incarnation,
        *,
        path: str,
        epoch: int,
        attempt: int,
        previous: Outcome | None,
        inbox: Inbox | None,
    ) -> None:
        self.path = path
        """Ids from the root down, joined by ``/``; the root's own id is left out."""
        self.epoch = epoch
        """Which incarnation this is, from 1; +1 at every start."""
        self.attempt = attempt
        """1, or one more than the failures in a row before this start."""
        self.previous = previous
        """How the incarnation before ended; None at first."""
        self.stopping = trio.Event()
        """Set: drain now.  Cancellation follows after the grace."""
        self._incarnation = incarnation
        self._inbox = inbox

    @property
    def id(self) -> str:
        """The last part of its path: the id in its ``ChildSpec``; empty for the root."""
        return self.path.rpartition("/")[2]

    @property
    def stop_reason(self) -> str:
        """Why it is asked to stop; "" while it isn't."""
        return self._incarnation.stop_reason or ""

    @property
    def mailbox(self) -> Inbox:
        """The actor's messages; raises ``SpecError`` when its spec gave it no mailbox."""
        if self._inbox is None:
            raise SpecError(f"actor {self.path!r} has no mailbox; give its ChildSpec mailbox=<capacity>")
        return self._inbox

    def ready(self, value: object = None) -> None:
        """Say that the actor serves; ``value`` is what ``ActorRef.value`` shows from now on.

        Also the way back from ``degraded``.  Ignored once the actor was asked to stop.
        """
        self._incarnation.said_ready(value)

    def degraded(self, why: str) -> None:
        """Say that the actor serves, but not well.  Visible; nothing is restarted for it."""
        self._incarnation.said_degraded(why)

    def last_words(self, seconds: float) -> AbstractContextManager[trio.CancelScope]:
        """``with ctx.last_words(2):`` what the actor does in there goes on for that long after it was cancelled.

        A goodbye to a peer, a last write.  A second interrupt, and the deadline of the whole tree, end it at once.
        """
        return self._incarnation.last_words(seconds)

    def report(self, kind: type[news.Event], **details: Any) -> None:
        """Say what happened to the actor in its own terms: an ``Event`` of its own, with these fields.

        Listeners and ``events()`` hear it between the supervision events, in order.
        """
        self._incarnation.reported(kind, details)


@protected
class ActorRef:
    """The address of an actor, valid across its restarts and those of its supervisors."""

    def __init__(self, tree: Tree, path: str) -> None:
        self._tree = tree
        self.path = path

    def __repr__(self) -> str:
        return f"<ActorRef {self.path!r}>"

    def _cell(self) -> Cell:
        cell = self._tree.find(self.path)
        if cell is None or cell.closed:
            raise ActorDown(f"no actor {self.path!r} is alive or will be")
        return cell

    def _mailbox(self) -> Mailbox:
        mailbox = self._cell().mailbox
        if mailbox is None:
            raise SpecError(f"actor {self.path!r} has no mailbox; give its ChildSpec mailbox=<capacity>")
        return mailbox

    @property
    def value(self) -> Any:
        """What the living incarnation passed to ``ctx.ready``; raises ``ActorDown`` when none serves."""
        cell = self._cell()
        if cell.live is None or not cell.is_ready():
            raise ActorDown(f"actor {self.path!r} is not READY now")
        return cell.live.value

    async def ask(self, message: Any, *, timeout: float = 30.0) -> Any:
        """Send a message and wait for its answer, ``timeout`` seconds in all.

        While the actor is down the message waits in its mailbox.  Raises what the actor gave
        to ``envelope.fail``; ``ActorDown`` when it received the message and died, or is gone
        for good; ``AskTimeout``.  After a timeout or cancellation a message not received yet
        is withdrawn; one received may still be worked on.
        """
        return await self._mailbox().ask(message, timeout)

    async def tell(self, message: Any) -> None:
        """Send a message, waiting while the mailbox is full; ``ActorDown`` when gone for good."""
        await self._mailbox().put(Envelope(message, wants_answer=False))

    def tell_nowait(self, message: Any) -> None:
        """Send a message; raises ``MailboxFull`` when there is no room, ``ActorDown`` when gone for good."""
        self._mailbox().put_nowait(Envelope(message, wants_answer=False))

    async def wait_ready(self) -> int:
        """Wait until the actor is READY and return its epoch; ``ActorDown`` when it is gone for good."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._tree.check_alive()
            cell = self._cell()
            if cell.is_ready():
                return cell.epoch
            await cell.changed.park()

    async def wait_down(self, epoch: int) -> Outcome:
        """Wait until that incarnation is gone and return how it ended; at once if it already is.

        Of an incarnation before the last one only ``Stopped("replaced ...")`` is known.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            cell = self._tree.find(self.path)
            if cell is None:
                return Stopped("gone for good")
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
