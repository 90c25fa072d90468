"""A connection's actor, as the tasks of one asyncio loop see it."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from ..actors.connection import ConnectionActor
from ..errors import RuntimeStopped
from . import leases
from .bells import Bell
from .bundle import Bundle
from .jobs import Job
from .tenant import Tenant

__all__ = ["LoopHandle", "running_loop"]

T = TypeVar("T")
CENTURY = 100 * 365 * 86400.0
"""Seconds: no loop runs so long."""


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop that the caller runs in.

    Raises:
        RuntimeError: in none, or in trio.
    """
    if trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "kombu_actors.aio is for asyncio, and this is a task of trio: use kombu_actors.broker, which has the same "
            "names and needs no other thread"
        )
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "kombu_actors.aio needs a running asyncio loop (asyncio.run, uvloop.run): in blocking code use "
            "kombu_actors.Connection"
        ) from None


class LoopBell(Bell):
    """Something in the loop waits."""

    __slots__ = ("_answer", "_to_loop")

    def __init__(self, to_loop: Bundle, answer: Callable[[], object]) -> None:
        self._to_loop = to_loop
        self._answer = answer

    def ring(self) -> None:
        """Have the answer called in the loop."""
        self._to_loop.post(self._answer)


class _Canary:
    """Held by the loop alone: dies when the loop is closed."""

    def sing(self) -> None:
        """A century is over."""


class LoopHandle:
    """One connection's tree, run for the tasks of the loop in which this is made.

    ``on_failure(error)`` is called in the loop when supervision gives up, or the runtime dies.

    Raises:
        BrokerUnreachable: the runtime can't be started.
    """

    def __init__(self, actor: ConnectionActor, on_failure: Callable[[BaseException], object]) -> None:
        self.loop = running_loop()
        self.to_loop = Bundle(self._ring_loop)
        self.waiting: set[asyncio.Future[None]] = set()
        """Those who wait for what comes by ``to_loop`` and is no job's."""
        self.over: BaseException | None = None
        """Why nothing comes of the tree any more; None while it runs."""
        self._tenant = Tenant(actor, self._gone, goodbye=actor.stop_deadline)
        actor.on_failure = lambda error: self.to_loop.post(on_failure, error)
        # This waits for the runtime's thread, a millisecond, when it is the process's first connection.
        self.portal = leases.start_tree(self._tenant)
        self.to_runtime = Bundle(self.portal.post)
        canary = _Canary()
        self._abandoned = weakref.finalize(canary, leases.abandon_tree, self._tenant, 0)
        self._abandoned.atexit = False  # the leases have their own
        self._perch = weakref.ref(self.loop.call_later(CENTURY, canary.sing))

    async def call(
        self,
        fn: Callable[..., Awaitable[T]],
        *args: object,
        unwanted: Callable[[T], object] | None = None,
        shield: bool = False,
    ) -> T:
        """Run ``await fn(*args)`` in the runtime and wait for what it returns.

        Cancelled, it is cancelled there (unless ``shield``), and waited for all the same; cancelled once more, it is
        not waited for any longer.  A result that nobody takes is given to ``unwanted``, in the loop.

        Raises:
            RuntimeDied: the runtime has died meanwhile, or before.
            RuntimeStopped: the runtime has ended.
        """
        job = Job(fn, args, None)
        self.portal.begin(job)
        try:
            await self._end_of(job)
        except asyncio.CancelledError:
            if not shield:
                with contextlib.suppress(RuntimeStopped):  # then it is over
                    self.portal.post(job.cancel)
            try:
                await self._end_of(job)
            finally:
                self._answer(job, partial(_drop, job, unwanted))
            raise
        if job.error is not None:
            try:
                raise job.error
            finally:
                del job  # the traceback would keep the job, and the job the error, alive
        result: T = job.result
        return result

    async def _end_of(self, job: Job) -> None:
        if not job.finished:
            future: asyncio.Future[None] = self.loop.create_future()
            self._answer(job, partial(_wake, future))
            await future

    def _answer(self, job: Job, answer: Callable[[], object]) -> None:
        """Have it called in the loop when the job is finished; more than once, perhaps."""
        job.bell = LoopBell(self.to_loop, answer)
        if job.finished:
            answer()

    async def leave(self) -> None:
        """End the tree and wait for that, also when cancelled: within its ``stop_deadline``."""
        self._abandoned.detach()
        self._free_canary()
        try:
            self.portal.post(self.portal.dismiss, self._tenant, 0)
            await self.call(self._tenant.wait_over, shield=True)
        except RuntimeStopped:
            leases.release(self._tenant)  # it went with its runtime
        self.portal.join()  # of the last tree: nothing is left to be done there

    def abandon(self) -> None:
        """End the tree without waiting for that: the loop, or the task that would have left it, is no more."""
        self._abandoned()
        self._free_canary()

    def _free_canary(self) -> None:
        timer = self._perch()
        if timer is not None:
            timer.cancel()

    def _ring_loop(self, carry_out: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(carry_out)
        except RuntimeError:  # it is closed
            self.to_loop.close()
            leases.abandon_tree(self._tenant, 0)

    def _gone(self, why: BaseException) -> None:
        self.to_loop.post(self._fail_waiting, why)

    def _fail_waiting(self, why: BaseException) -> None:
        self.over = why
        for future in tuple(self.waiting):
            if not future.done():
                future.set_exception(why)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _drop(job: Job, unwanted: Callable[..., object] | None) -> None:
    result, job.result = job.result, None
    if unwanted is not None and result is not None:
        unwanted(result)
