"""The periodic jobs of a fleet: one tick in all its processes, none missed for good, none on top of the last one.

A tick is settled when its handler is done.  So when the process is killed meanwhile, the next holder of the lease runs
it again; killed between two ticks, nobody knows any difference.  Those that were missed while nobody held the lease are
made up by one; those that fell into the time that the job itself took are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import cast

import attrs
import trio

from .._logs import get_logger
from ..broker import Broker
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected, run_unprotected, unprotected
from ._custody import Custody
from ._lease import JobLease
from ._schedule import Job, is_ahead
from .message import Message
from .views import JobView

__all__ = ["Periodic"]

logger = get_logger("kombu_actors.fleet")

CLOCK_LOOK = 10.0
"""Seconds between two looks at the clock: it may be set, or the machine have slept."""
AGAIN = 1.0
"""Seconds until a tick is tried again whose resources are down."""


@attrs.define(eq=False)
class _Running:
    """What one job's task knows of it."""

    job: Job
    next_at: float | None = None
    since: float | None = None
    ticks: int = 0
    failures: int = 0


@protected
class Periodic:
    """The jobs of a fleet, as an actor of its tree.

    ``values(job)`` gives the resources that a job depends on, as they are now; it may raise when one is down.
    ``custody``, of a worker process, notes which run.  ``clock`` tells the time, in seconds since 1970.
    """

    def __init__(
        self,
        fleet: str,
        jobs: Sequence[Job],
        consuming: Broker,
        publishing: Broker,
        values: Callable[[Job], Sequence[object]],
        custody: Custody | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._running = [_Running(job) for job in jobs]
        self._values = values
        self._custody = custody
        self._clock = clock
        self._lease = JobLease(fleet, frozenset(job.name for job in jobs), consuming, publishing, clock)

    def view(self) -> tuple[JobView, ...]:
        """How the jobs stand."""
        return tuple(
            JobView(
                name=one.job.name,
                holding=self._lease.holds(one.job.name),
                next_at=one.next_at,
                running_since=one.since,
                ticks=one.ticks,
                failures=one.failures,
            )
            for one in self._running
        )

    async def run(self, ctx: ActorContext) -> None:
        """The actor.  Asked to stop, it begins no tick any more, and lets those that run come to their end."""
        ctx.ready()
        async with trio.open_nursery() as lease:
            lease.start_soon(self._lease.keep)
            async with trio.open_nursery() as jobs:
                for running in self._running:
                    jobs.start_soon(self._serve, ctx, running, name=running.job.name)
            lease.cancel_scope.cancel(reason="all jobs have stopped")

    async def _serve(self, ctx: ActorContext, running: _Running) -> None:
        while not ctx.stopping.is_set():
            with ctx.until_stopping() as waiting:
                await self._wait_until_due(running)
            if not waiting.cancelled_caught:
                await self._tick(ctx, running)

    async def _wait_until_due(self, running: _Running) -> None:
        job = running.job
        while True:
            running.next_at = None
            settled = await self._lease.settled(job.name)
            now = self._clock()
            if is_ahead(settled, now):
                await self._lease.settle(job.name, now)
                settled = now
            running.next_at = job.schedule.next_after(settled)
            if running.next_at <= now:
                running.next_at = None
                return
            await trio.sleep(min(running.next_at - now, CLOCK_LOOK))

    async def _tick(self, ctx: ActorContext, running: _Running) -> None:
        job = running.job
        try:
            values = self._values(job)
        except Exception as error:
            logger.info("job %s waits, for what it depends on is not there: %r", job.name, error)
            with ctx.until_stopping():
                await trio.sleep(AGAIN)
            return
        if self._custody is not None:
            with ctx.until_stopping() as waiting:
                await self._custody.wait_nobody_alone()
            if waiting.cancelled_caught:
                return
        running.since = self._clock()
        try:
            with nullcontext() if self._custody is None else self._custody.running(job.name):
                await self._call(job, values)
        except Exception:
            running.failures += 1
            logger.exception("job %s failed; it is not tried again before its next tick", job.name)
        finally:
            running.since = None
        running.ticks += 1
        await self._lease.settle(job.name, self._clock())

    async def _call(self, job: Job, values: Sequence[object]) -> None:
        nothing = cast(Message, None)  # a job's plan takes no message
        if job.handler.is_async:
            await run_unprotected(job.handler.call, nothing, values)
        else:
            await trio.to_thread.run_sync(
                partial(unprotected, job.handler.call, nothing, values), abandon_on_cancel=True
            )
