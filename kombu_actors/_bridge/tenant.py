"""One connection's tree, living in the runtime."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from .._logs import get_logger
from ..actors.connection import ConnectionActor
from ..errors import ConnectionClosed

__all__ = ["GOODBYE", "Tenant", "for_nobody"]

logger = get_logger("kombu_actors.portal")
GOODBYE = 0.25
"""Seconds for the broker's goodbye by default: a round trip to anywhere that answers."""


class Tenant:
    """A tree from its start to its end.  Everything runs in the trio thread.

    ``on_gone`` is told why nothing will come of it any more, once.  ``goodbye`` is for the broker's, in seconds, when
    the drain has used up its time.
    """

    def __init__(
        self, actor: ConnectionActor, on_gone: Callable[[BaseException], object], *, goodbye: float = GOODBYE
    ) -> None:
        self.actor = actor
        self.leaving = False
        """Whether somebody sees to its end already."""
        self.unconfirmed = 0
        """How many publishes stayed unconfirmed, once it is gone."""
        self.awaited = 0
        """How many callers wait for its end, and will be told."""
        self._on_gone = on_gone
        self._goodbye = goodbye
        self._deadline = math.inf
        self._patience = trio.CancelScope()
        self._running = False
        self._leave = trio.Event()
        self._stopped = trio.Event()
        self._over = trio.Event()
        self._chores: trio.Nursery | None = None

    def spawn(self, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run ``fn`` for as long as the tree runs at most; for ``post``."""
        if self._chores is not None:
            self._chores.start_soon(for_nobody, fn, *args)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run the tree until it leaves; its failure is kept in ``actor.failure`` for those who ask."""
        if self.leaving:
            raise ConnectionClosed("the connection was closed before it was opened")
        self._running, began = True, False
        try:
            async with self.actor.running(), trio.open_nursery() as chores:
                self._chores = chores
                task_status.started()
                began = True
                try:
                    await self._leave.wait()
                finally:
                    self._chores = None
                    chores.cancel_scope.cancel()
        except trio.Cancelled:
            raise
        except BaseException as error:  # whatever it is, it ends this connection and no other
            if error is not self.actor.failure:
                self.actor.failure = error
                if self.actor.on_failure is not None:
                    self.actor.on_failure(error)
            if not began:
                raise
            logger.info("supervision of the connection gave up: %r", error)
        finally:
            self._stopped.set()

    def hasten(self, deadline: float) -> None:
        """Have it drain no longer than until ``deadline``."""
        self._deadline = min(self._deadline, deadline)
        self._patience.deadline = min(self._patience.deadline, max(deadline, trio.current_time()))

    async def leave(self) -> None:
        """Give the ledgers time until the deadline of ``hasten``, then stop the tree.

        What the drain leaves of its time the goodbye may use; then the socket is closed without an answer.
        """
        publishers = [channel.publisher for channel in self.actor.channels.values()]
        self.actor.submissions.take_in()
        if self.actor.failure is None and self._running:
            with self._until(self._deadline):
                for publisher in publishers:
                    await publisher.wait_empty()
                link = self.actor.session.link
                if link is not None:
                    await link.wait_settled()
        self.unconfirmed = sum(publisher.under_way for publisher in publishers)
        self._leave.set()
        if self._running:
            await self._stop()

    async def _stop(self) -> None:
        with self._until(max(self._deadline, trio.current_time() + self._goodbye)):
            await self._stopped.wait()
        link = self.actor.session.link
        if not self._stopped.is_set() and link is not None:
            link.kill(ConnectionClosed("the connection was closed without waiting any longer for the broker's goodbye"))
        await self._stopped.wait()

    def _until(self, deadline: float) -> trio.CancelScope:
        self._patience = trio.CancelScope(deadline=deadline)
        return self._patience

    def gone(self, why: BaseException | None = None) -> None:
        """It has left, or (``why``) the runtime has died with it."""
        if why is not None:
            self.unconfirmed = sum(channel.publisher.under_way for channel in self.actor.channels.values())
            self._cut_off(why)
            self.actor.failure = self.actor.failure or why
            if self.actor.on_failure is not None:
                self.actor.on_failure(self.actor.failure)
        where = self.actor.session.selector.current
        self._on_gone(self.actor.failure or ConnectionClosed(f"the connection to {where} was released"))
        if not self.awaited:
            self.report_unconfirmed()
        if why is None:
            self._over.set()

    def report_unconfirmed(self) -> None:
        """Say how many publishes stayed unconfirmed, where no caller is told."""
        if self.unconfirmed:
            where = self.actor.session.selector.current
            logger.error("the connection to %s ended with %d publishes not confirmed", where, self.unconfirmed)

    def _cut_off(self, why: BaseException) -> None:
        """Let the broker know that this link is dead, in a run where nobody can be woken any more."""
        link = self.actor.session.link
        try:
            if link is not None:
                link.kill(why)
        except Exception as error:
            logger.debug("nobody heard of the end of %r: %r", link, error)

    async def wait_over(self) -> None:
        """Wait until it is gone.  Cancelling changes nothing about that."""
        self.awaited += 1
        try:
            await self._over.wait()
        finally:
            self.awaited -= 1


async def for_nobody(fn: Callable[..., Awaitable[object]], *args: object) -> None:
    """Await ``fn(*args)`` for nobody: what it raises is logged, and ends nothing else."""
    try:
        await fn(*args)
    except Exception:
        logger.exception("%s failed, and nobody waits for it", getattr(fn, "__qualname__", fn))
