"""A connection's running tree, seen from the facade's side."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from . import _portal
from ._endpoint import Endpoint
from ._inbox import Inbox
from ._parameters import Parameters
from .actors.connection import ConnectionActor
from .errors import ConnectionClosed, DeadlineExceeded
from .transport._link import Transport

if TYPE_CHECKING:
    from ._channel import Channel

T = TypeVar("T")
INBOX_LIMIT = 32 * 1024 * 1024
"""Bytes of deliveries waiting to be drained before reading pauses (consumers without prefetch only)."""


class Tree:
    """One run of a connection's tree; thrown away when the connection is released or supervision gave up.

    The actor's side refers to the inbox and to ``dial_errors`` only, never to this object: else
    a connection that nobody refers to any more could not be collected, and its tree not ended.
    """

    def __init__(self, owner: object, driver: Transport, parameters: Parameters, *, hold: bool = False) -> None:
        _portal.check_interpreter()
        self.pid = os.getpid()
        self.channels: dict[int, Channel] = {}
        self.default_channel: Channel | None = None
        self.dial_errors: deque[BaseException] = deque(maxlen=1)
        self.actor = actor = ConnectionActor(
            driver,
            parameters.endpoints(),
            attrs.evolve(parameters.link_options(), make_lock=_portal.new_lock),
            failover_strategy=parameters.strategy(),
            on_dial_failed=partial(_note, self.dial_errors),
        )
        self.inbox = Inbox(INBOX_LIMIT, actor.pause_reading)
        actor.on_failure = self.inbox.fail
        if hold:
            actor.session.dialler.hold()
        self.portal, self._tenant = _portal.start_tree(actor)
        self.inbox.on_room = partial(self.portal.post, actor.resume_reading)
        self._finalizer = weakref.finalize(owner, _portal.abandon_tree, self.portal, self._tenant)
        self._finalizer.atexit = False  # the portal has its own, which waits

    @property
    def usable(self) -> bool:
        """Whether supervision still works on it, in this process."""
        return self.pid == os.getpid() and self.actor.failure is None and not self._tenant.left

    @property
    def connected(self) -> bool:
        """Whether a session is up at this moment."""
        link = self.actor.session.link
        return self.usable and link is not None and link.closed is None

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use, or dialled next."""
        return self.actor.session.selector.current

    def hold_dialling(self) -> None:
        """Let this side decide when to dial; see ``Dialler``."""
        self.portal.call(_call, self.actor.session.dialler.hold, timeout=None)

    def let_dialling_go(self) -> None:
        """Undo ``hold_dialling``."""
        self.portal.call(_call, self.actor.session.dialler.let_go, timeout=None)

    def call(self, fn: Callable[..., Awaitable[T]], *args: Any, timeout: float) -> T:
        """Run ``await fn(*args)`` in the runtime.

        Raises:
            DeadlineExceeded: it took longer than ``timeout`` seconds; its text says what the connection is like.
        """
        try:
            return self.portal.call(fn, *args, timeout=timeout)
        except DeadlineExceeded:
            raise DeadlineExceeded(f"no answer within {timeout:.3g} s: {self._condition()}") from None

    def later(self, fn: Callable[..., Awaitable[Any]]) -> None:
        """Run ``await fn()``, which must not raise, in the runtime; nobody waits for it."""
        self.portal.post(self._tenant.spawn, fn)

    def _condition(self) -> str:
        link, where = self.actor.session.link, self.endpoint
        if link is None or link.closed is not None:
            failures = "; ".join(str(error) for error in self.dial_errors)
            return f"not connected to {where} ({failures or 'dialling'}); supervision goes on trying"
        if link.blocked is not None:
            return f"{where} has blocked this connection ({link.blocked}) and reads nothing until that is over"
        return f"{where} is connected, but has not answered"

    def stop(self, drain: float) -> int:
        """End the tree; returns how many publishes stayed unconfirmed after ``drain`` seconds."""
        self._finalizer.detach()
        if self.pid != os.getpid():
            return 0
        try:
            return _portal.stop_tree(self.portal, self._tenant, drain)
        finally:
            # Other threads may be draining events: nobody will ring for them any more.
            self.inbox.close(self.actor.failure or ConnectionClosed(f"the connection to {self.endpoint} was released"))


def _note(errors: deque[BaseException], endpoint: Endpoint, error: BaseException) -> None:
    errors.append(error)


async def _call(fn: Any) -> None:
    fn()
