"""A connection's actor, as threads see it: calls into the runtime, and what may be read of it meanwhile."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .._values.endpoint import Endpoint, FailoverStrategy, LinkOptions
from .._values.originals import green
from ..actors.connection import ConnectionActor
from ..actors.waitlist import Waiting
from ..errors import DeadlineExceeded
from ..supervisors import Supervisor
from . import leases
from .channel import ChannelHandle
from .inbox import Inbox
from .listener import LoopReader
from .portal import Portal, check_interpreter, new_lock
from .tenant import Tenant

if TYPE_CHECKING:
    from ..transport._contract import Transport

__all__ = ["ConnectionHandle"]

T = TypeVar("T")
INBOX_LIMIT = 32 * 1024 * 1024
"""Bytes of deliveries waiting to be drained before reading pauses (consumers without prefetch only)."""


class ConnectionHandle:
    """One run of a connection's tree; thrown away when the connection is released or supervision gave up.

    The actor's side refers to the inbox only, never to this object: else
    a connection that nobody refers to any more could not be collected, and its tree not ended.
    """

    def __init__(
        self,
        transport: Transport,
        endpoints: Sequence[Endpoint],
        options: LinkOptions,
        strategy: str | FailoverStrategy,
        *,
        holder: object | None = None,
    ) -> None:
        check_interpreter()
        self.pid = os.getpid()
        self.actor = actor = ConnectionActor(
            transport, endpoints, options.but(make_lock=new_lock), failover_strategy=strategy
        )
        self.inbox = Inbox(INBOX_LIMIT, actor.pause_reading, actor.resume_reading, actor.read_seldom)
        actor.on_failure = self.inbox.fail
        if holder is not None:
            actor.session.dialler.hold(holder)
        self.stopped = False
        """Whether somebody has begun to stop it: who uses the connection now needs another one."""
        self._tenant = Tenant(actor, self.inbox.close)
        self._finalizer = weakref.finalize(self, leases.abandon_tree, self._tenant)
        self._finalizer.atexit = False  # the portal has its own, which waits
        self.portal = leases.start_tree(self._tenant)
        self.inbox.post = self.portal.post

    # What threads may ask at any moment, without waiting

    @property
    def usable(self) -> bool:
        """Whether supervision still works on it, in this process."""
        stopped = self.stopped or self._tenant.leaving
        return not stopped and self.pid == os.getpid() and not self.actor.gives_up

    @property
    def connected(self) -> bool:
        """Whether a session is up at this moment."""
        return self.usable and self.actor.session.is_up

    @property
    def supervision(self) -> Supervisor:
        """Its tree, for what stays in the runtime (``stay``); not to be touched from another thread."""
        return self.actor.supervisor

    @property
    def failure(self) -> BaseException | None:
        """Why supervision gave up; None while it goes on."""
        return self.actor.failure

    @property
    def sessions(self) -> int:
        """How many sessions there have been in this run, the present one included."""
        return self.actor.session.epochs

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use, or dialled next."""
        return self.actor.session.selector.current

    @property
    def blocked(self) -> str | None:
        """The broker's reason for taking no publishes; None while it takes them."""
        return self.actor.blocked_because()

    @property
    def waiting(self) -> list[Waiting]:
        """What of the declared topology the broker refuses to restore just now, and when it is tried again."""
        return self.actor.topology_calls.waiting

    @property
    def unsent(self) -> bool:
        """Whether publishes or settlements wait for a session."""
        channels = list(self.actor.channels.values())
        return bool(self.actor.submissions.waiting) or any(len(channel.publisher.ledger) for channel in channels)

    @property
    def server_properties(self) -> Mapping[str, Any]:
        """What the broker of the present session said about itself; ``ConnectionLost`` when there is none."""
        return self.actor.session.require_link().server_properties

    @property
    def sock(self) -> Any:
        """The socket of the present session, to be looked at (``getsockname``, ``getpeername``), not to be used.

        Raises:
            ConnectionLost: there is no session.
            AttributeError: the transport has no socket.
        """
        return self.actor.session.require_link().sock

    def loop_reader(self) -> LoopReader | None:
        """What reads the present session's socket in an event loop's thread; None where only the runtime can."""
        link = self.actor.session.link
        reader = link.second_reader() if link is not None and green() is None else None
        return LoopReader(self.portal, reader) if reader is not None else None

    # Calls into the runtime

    def call(self, fn: Callable[..., Awaitable[T]], *args: object, timeout: float) -> T:
        """Run ``await fn(*args)`` in the runtime.

        Raises:
            DeadlineExceeded: it took longer than ``timeout`` seconds; its text says what the connection is like.
        """
        try:
            return self.portal.call(fn, *args, timeout=timeout)
        except DeadlineExceeded:
            raise DeadlineExceeded(f"no answer within {timeout:.3g} s: {self.actor.session.condition()}") from None

    def call_now(self, call: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Run ``await call()`` in the runtime over the present session, waiting for no other.

        Raises:
            ConnectionLost: there is none, or it ended before the call did.
            DeadlineExceeded: as ``call``.
        """
        answer: T = self.call(self.actor.session.call, call, timeout=timeout)
        return answer

    def later(self, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run ``await fn(*args)`` in the runtime; nobody waits for it, what it raises is logged."""
        self.portal.post(self._tenant.spawn, fn, *args)

    def wait_ready(self, timeout: float) -> None:
        """Wait until there is a session, and the declared topology holds."""
        self.call(self.actor.topology_calls.wait_ready, timeout=timeout)

    def hold_dialling(self, holder: object) -> None:
        """Let this side decide when to dial, from its next call on; see ``Dialler``."""
        self.portal.post(self.actor.session.dialler.hold, holder)

    def let_dialling_go(self, holder: object) -> None:
        """Undo ``hold_dialling``; may be done again."""
        self.portal.post(self.actor.session.dialler.let_go, holder)

    def dial(self, timeout: float) -> None:
        """Dial one endpoint, by whoever holds the dialling; returns at once with a live session."""
        self.call(self.actor.dial_now, timeout=timeout)

    def probe(self, timeout: float) -> None:
        """Ask the broker whether it is still there; ``ConnectionLost`` when it is not."""
        self.portal.call(self.actor.probe, timeout=timeout)

    # Channels

    def open_channel(
        self, opened: list[ChannelHandle], timeout: float, predecessor: ChannelHandle | None = None
    ) -> None:
        """Open a channel, found in ``opened`` then, also by those who were interrupted."""
        self.call(_open_channel, self.actor, self.portal, self.inbox, predecessor, opened, timeout=timeout)

    def promise_channel(self, promised: list[ChannelHandle]) -> None:
        """A channel whose opening the next call waits for, found in ``promised`` also by those who were interrupted.

        Only where it can surely be opened (``may_promise``).
        """
        actor = self.actor.new_channel(self.inbox.fail)
        promised.append(ChannelHandle(self.portal, self.inbox, self.actor, actor))
        self.portal.post(self.actor.promise_channel, actor)

    def may_promise(self, channels: int) -> bool:
        """Whether a channel more than so many need not be waited for."""
        return self.actor.may_promise(channels)

    def take_back(self, opened: list[ChannelHandle]) -> None:
        """Close what was opened for somebody who was interrupted."""
        for channel in opened:
            self.later(self.actor.close_channel, channel.actor)

    # Its end

    def stop(self, drain: float) -> int:
        """End the tree; returns how many publishes stayed unconfirmed after ``drain`` seconds.

        Interrupted at any point it ends all the same, sooner.  Threads that drain its events get ``ConnectionClosed``.
        """
        try:
            self.stopped = True
            return leases.stop_tree(self._tenant, drain) if self.pid == os.getpid() else 0
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """End the tree without waiting for that."""
        self.stopped = True
        if self.pid == os.getpid():
            leases.abandon_tree(self._tenant, 0)


async def _open_channel(
    actor: ConnectionActor,
    portal: Portal,
    inbox: Inbox,
    predecessor: ChannelHandle | None,
    opened: list[ChannelHandle],
) -> None:
    former = predecessor.actor if predecessor is not None else None
    opened.append(ChannelHandle(portal, inbox, actor, await actor.open_channel(inbox.fail, former)))
