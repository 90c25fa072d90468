"""A connection's running tree, seen from the facade's side."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from .._bridge import portal
from .._bridge.inbox import Inbox
from .._bridge.tenant import Tenant
from .._values.endpoint import Endpoint
from ..actors.channel import ChannelActor
from ..actors.connection import ConnectionActor
from ..errors import DeadlineExceeded
from ..transport._contract import Transport
from .parameters import Parameters

if TYPE_CHECKING:
    from .channel import Channel

T = TypeVar("T")
INBOX_LIMIT = 32 * 1024 * 1024
"""Bytes of deliveries waiting to be drained before reading pauses (consumers without prefetch only)."""


class Tree:
    """One run of a connection's tree; thrown away when the connection is released or supervision gave up.

    The actor's side refers to the inbox only, never to this object: else
    a connection that nobody refers to any more could not be collected, and its tree not ended.
    """

    def __init__(self, driver: Transport, parameters: Parameters, *, holder: object | None = None) -> None:
        portal.check_interpreter()
        self.pid = os.getpid()
        self.channels: dict[int, Channel] = {}
        self.default_channel: Channel | None = None
        self.actor = actor = ConnectionActor(
            driver,
            parameters.endpoints(),
            attrs.evolve(parameters.link_options(), make_lock=portal.new_lock),
            failover_strategy=parameters.strategy(),
        )
        self.inbox = Inbox(INBOX_LIMIT, actor.pause_reading, actor.resume_reading)
        actor.on_failure = self.inbox.fail
        if holder is not None:
            actor.session.dialler.hold(holder)
        self.stopped = False
        """Whether somebody has begun to stop it: who uses the connection now needs another one."""
        self._tenant = Tenant(actor, self.inbox.close)
        self._finalizer = weakref.finalize(self, portal.abandon_tree, self._tenant)
        self._finalizer.atexit = False  # the portal has its own, which waits
        self.portal = portal.start_tree(self._tenant)
        self.inbox.post = self.portal.post

    @property
    def usable(self) -> bool:
        """Whether supervision still works on it, in this process."""
        stopped = self.stopped or self._tenant.leaving
        return not stopped and self.pid == os.getpid() and self.actor.failure is None

    @property
    def connected(self) -> bool:
        """Whether a session is up at this moment."""
        link = self.actor.session.link
        return self.usable and link is not None and link.closed is None

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use, or dialled next."""
        return self.actor.session.selector.current

    def hold_dialling(self, holder: object) -> None:
        """Let this side decide when to dial, from its next call on; see ``Dialler``."""
        self.portal.post(self.actor.session.dialler.hold, holder)

    def let_dialling_go(self, holder: object) -> None:
        """Undo ``hold_dialling``; may be done again."""
        self.portal.post(self.actor.session.dialler.let_go, holder)

    def call(self, fn: Callable[..., Awaitable[T]], *args: Any, timeout: float) -> T:
        """Run ``await fn(*args)`` in the runtime.

        Raises:
            DeadlineExceeded: it took longer than ``timeout`` seconds; its text says what the connection is like.
        """
        try:
            return self.portal.call(fn, *args, timeout=timeout)
        except DeadlineExceeded:
            raise DeadlineExceeded(f"no answer within {timeout:.3g} s: {self.actor.session.condition()}") from None

    def later(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run ``await fn(*args)`` in the runtime; nobody waits for it, what it raises is logged."""
        self.portal.post(self._tenant.spawn, fn, *args)

    def open_channel(self, opened: list[ChannelActor], timeout: float, inherited: ChannelActor | None = None) -> None:
        """Open a channel, found in ``opened`` then, also by those who were interrupted."""
        self.call(_open_channel, self.actor, self.inbox.fail, inherited, opened, timeout=timeout)

    def take_back(self, opened: list[ChannelActor]) -> None:
        """Close what was opened for somebody who was interrupted."""
        for actor in opened:
            self.channels.pop(actor.number, None)
            self.later(self.actor.close_channel, actor)

    def stop(self, drain: float) -> int:
        """End the tree; returns how many publishes stayed unconfirmed after ``drain`` seconds.

        Interrupted at any point it ends all the same, sooner.  Threads that drain its events get ``ConnectionClosed``.
        """
        try:
            self.stopped = True
            return portal.stop_tree(self._tenant, drain) if self.pid == os.getpid() else 0
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """End the tree without waiting for that."""
        self.stopped = True
        if self.pid == os.getpid():
            portal.abandon_tree(self._tenant, 0)


async def _open_channel(
    actor: ConnectionActor,
    on_gone: Callable[[BaseException], None],
    inherited: ChannelActor | None,
    opened: list[ChannelActor],
) -> None:
    opened.append(await actor.open_channel(on_gone, inherited))
