"""Who of all processes of a fleet runs its periodic jobs: the one that consumes the queue ``ka.every.<fleet>``.

It may be consumed exclusively only, so there is one at a time.  For each job the queue has one message, its *token*,
which says up to when the job's ticks are dealt with.  The holder keeps the tokens unsettled; when it dies the broker
gives them to the next one, which so knows what was missed.  A token is moved on by publishing its successor, which
comes back to the holder: then the old one is acked.  Of two tokens of one job the one of the later turn counts, not of
the later moment: clocks are set back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import attrs
import trio

from .._frozen import Record
from .._logs import get_logger
from ..broker import Broker, Delivered, QueueSpec
from ..errors import AccessRefused, ContentDisallowed, DecodeError
from ..supervisors._interrupts import protected
from ..utils.uuid import uuid

__all__ = ["JobLease"]

logger = get_logger("kombu_actors.fleet")

LOOK_EVERY = 1.0
"""Seconds between two looks of a process that stands by: one round trip each, and the most that a takeover takes
besides the broker's noticing that the holder is gone."""
LOOK_AFTER = 5.0
"""Seconds between two looks of the holder for tokens that are missing: the queue was deleted, or the broker has lost
its data."""
REFRESH = 600.0
"""Seconds that a token is held at most: RabbitMQ closes the channel of who holds a message for 30 minutes."""
FORGET = 30 * 24 * 3600.0
"""Seconds after which the token of a job that this program doesn't have is dropped.  Sooner, a deployment that has been
rolled back would find its jobs forgotten."""
REFUSALS = 10
"""How often in a row the broker may refuse: one of two that come at once is; nobody is ten times."""
TOKENS_MAX = 10_000
"""Tokens that are held at most: all jobs of a fleet, and those that it had within a month."""


class Turn(Record):
    """How far a job has come; the greater, the later."""

    number: int
    until: float
    """Up to when its ticks are dealt with, seconds since 1970."""


@attrs.frozen(eq=False)
class _Token:
    message: Delivered
    turn: Turn
    came: float
    """By trio's clock."""


@protected
class JobLease:
    """The tokens that this process holds for a fleet's jobs, whose names are ``jobs``."""

    def __init__(
        self, fleet: str, jobs: Collection[str], consuming: Broker, publishing: Broker, clock: Callable[[], float]
    ) -> None:
        self.queue = QueueSpec(name=f"ka.every.{fleet}", type="classic")
        self._jobs = jobs
        self._consuming = consuming
        self._publishing = publishing
        self._clock = clock
        self._tokens: dict[str, _Token] = {}
        self._turns: dict[str, Turn] = {}
        """The last one that is known of each job: it may be ahead of the token, which is on its way then."""
        self._marker = ""
        """When it comes back, all tokens that were in the queue before it have come."""
        self._came = trio.lowlevel.ParkingLot()

    def holds(self, job: str) -> bool:
        """Whether a job is this process's to run, now."""
        token = self._tokens.get(job)
        return token is not None and not token.message.stale

    async def settled(self, job: str) -> float:
        """Up to when a job's ticks are dealt with; waits until this process holds its token."""
        while not self.holds(job):
            await self._came.park()
        return self._turns[job].until

    async def settle(self, job: str, until: float) -> None:
        """A job's ticks are dealt with up to this moment; returns when the broker knows."""
        last = self._turns.get(job)
        turn = self._turns[job] = Turn(last.number + 1 if last is not None else 1, until)
        await self._publish({"job": job, "turn": turn.number, "until": until})

    async def keep(self) -> None:
        """Hold the lease, or stand by for it, until cancelled.

        Raises ``AccessRefused`` when this user may not consume from the queue, and what declaring it raises.
        """
        await self._consuming.declare(self.queue, timeout=math.inf)
        refusals = 0
        while True:
            await self._wait_until_nobody_has_it()
            try:
                async with (
                    self._consuming.subscribe(
                        self.queue.name, exclusive=True, prefetch=TOKENS_MAX, timeout=math.inf
                    ) as messages,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(self._look_after)
                    # From here on the connection itself stands by when it loses the lease with its session.
                    async for message in messages:
                        await self._take(message)
            except AccessRefused:
                refusals += 1
                if refusals == REFUSALS:
                    raise
                await trio.sleep(LOOK_EVERY)

    async def _wait_until_nobody_has_it(self) -> None:
        while True:
            info = await self._consuming.inspect_queue(self.queue.name, timeout=math.inf)
            if not info.consumers:
                return
            await trio.sleep(LOOK_EVERY)

    async def _look_after(self) -> None:
        """Ask for missing tokens, and renew old ones."""
        while True:
            if not all(self.holds(job) for job in self._jobs):
                self._marker = uuid()
                await self._publish({"marker": self._marker})
            now = trio.current_time()
            for job, token in list(self._tokens.items()):
                if token.message.stale:
                    continue
                if job not in self._jobs and token.turn.until < self._clock() - FORGET:
                    del self._tokens[job], self._turns[job]
                    token.message.ack()
                elif now - token.came > REFRESH:
                    await self.settle(job, self._turns[job].until)
            await trio.sleep(LOOK_AFTER)

    async def _take(self, message: Delivered) -> None:
        match _content(message):
            case {"job": str(job), "turn": int(number), "until": float() | int() as until}:
                self._hold(job, _Token(message, Turn(number, float(until)), trio.current_time()))
            case {"marker": str(marker)}:
                message.ack()
                if marker == self._marker:
                    for job in self._jobs:
                        if not self.holds(job):
                            await self.settle(job, self._clock())
            case _:
                logger.warning("queue %r has a message that is none of ours; it was dropped", self.queue.name)
                message.ack()

    def _hold(self, job: str, new: _Token) -> None:
        old = self._tokens.get(job)
        if old is not None and not old.message.stale:
            old, new = sorted((old, new), key=lambda token: token.turn)
            if not old.message.ack():
                logger.debug("the token of job %r was acked too late: it comes again", job)
        self._tokens[job] = new
        self._turns[job] = max(new.turn, self._turns.get(job, new.turn))
        self._came.unpark_all()

    async def _publish(self, content: dict[str, object]) -> None:
        await self._publishing.publish(content, routing_key=self.queue.name, mandatory=True, timeout=math.inf)


def _content(message: Delivered) -> object:
    try:
        return message.payload
    except (DecodeError, ContentDisallowed):
        return None
