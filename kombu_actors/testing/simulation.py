"""A fleet on a broker in memory, for a test: what goes in, what came of it, what breaks it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Unpack

import trio

from ..broker import Broker, Delivered, MessageProperties
from ..fleet import Certificate, Client, DeadLetter, Fleet
from ..fleet._delays import PREFIX as DELAYS
from ..fleet.views import FleetView
from ..transport.memory import MemoryBroker, forget_memory_broker, memory_broker
from ._breaking import Breaker
from ._life import Life
from .faults import Fault, FaultPlan
from .records import Attempt, Book, Violation

__all__ = ["Simulation", "open_simulation"]

SLACK = 600.0
"""Seconds on the simulation's clock beyond the retries: what is not done then goes round in circles."""
LOOK_FIRST, LOOK_MAX = 0.001, 5.0
"""Seconds between two looks at whether all is done; it doubles.  On a clock that jumps they cost only the look."""
NO_FAULTS = FaultPlan()

_numbers = itertools.count()


class Simulation:
    """A running fleet and its broker.  Get it from ``open_simulation``, or as the argument of ``simulate``'s scenario.

    The client's connection is spared by all faults but a restart of the broker.
    """

    def __init__(
        self, broker: MemoryBroker, client: Client, onlooker: Broker, life: Life, breaker: Breaker, book: Book
    ) -> None:
        self.broker = broker
        """The broker, and its own ways to break: ``cut``, ``restart``, ``block``."""
        self.client = client
        """A client of the fleet's; what it publishes is not checked."""
        self._onlooker = onlooker
        self._life = life
        self._breaker = breaker
        self._book = book

    @property
    def fleet(self) -> Fleet:
        """The fleet that runs: the one that was given, on the broker in memory."""
        return self._life.fleet

    # -- what goes in -------------------------------------------------------------------------

    async def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | None = None,
        headers: Mapping[str, object] | None = None,
        **properties: Unpack[MessageProperties],
    ) -> str:
        """As ``Client.publish``; the id, unless given, is ``m1``, ``m2``, ...: the same in each run of a seed."""
        properties.setdefault("message_id", f"m{len(self._book.published) + 1}")
        id = await self.client.publish(queue, body, delay=delay, headers=headers, **properties)
        self._book.published[id] = queue
        return id

    async def request(self, queue: str, body: object, *, timeout: float = 30.0) -> object:
        """As ``Client.request``."""
        return await self.client.request(queue, body, timeout=timeout)

    # -- what came of it ----------------------------------------------------------------------

    async def wait_idle(self, timeout: float | None = None) -> None:
        """Wait until the plan's faults are over, nothing waits in the fleet's queues or delays, and no handler is at
        work.

        ``timeout`` is in seconds of the simulation's clock; then it is a ``Violation``.  None: twice what the longest
        ``Retry`` takes, and ten minutes for handlers and faults.  Say more where messages are snoozed for longer.
        """
        if timeout is None:
            timeout = SLACK + 2 * max(plan.retry.total for plan in self.fleet._registry.consumers)
        busy: list[str] = []
        with trio.move_on_after(timeout):
            await self._breaker.over.wait()
            pause, quiet = LOOK_FIRST, 0
            while quiet < 2:
                await trio.sleep(pause)
                now_busy = self._busy()
                quiet = 0 if now_busy else quiet + 1
                busy = now_busy or busy
                pause = min(2 * pause, LOOK_MAX) if now_busy else LOOK_FIRST
            return
        raise Violation(f"not idle after {timeout:g} s: {', '.join(busy)}")

    def handled(self, queue: str) -> list[str]:
        """Ids of the queue's messages for which a handler has returned, each once, in that order."""
        return self._book.handled(queue)

    def attempts(self, queue: str | None = None) -> Sequence[Attempt]:
        """Every call of a handler so far, or those for one queue: message, number, times, fate."""
        return self._book.attempts_of(queue)

    def dead_lettered(self, queue: str) -> list[str]:
        """Ids of the queue's messages that were dead-lettered."""
        return self._book.dead_lettered(queue)

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """The dead letters of a queue, as an operator sees them."""
        async with self.fleet.dead_letters(queue) as dead:
            return await dead.list()

    async def take(self, queue: str) -> list[Delivered]:
        """Take everything out of a queue that the fleet does not consume from: what its handlers have published."""
        found = []
        while (message := await self._onlooker.get(queue)) is not None:
            message.ack()
            found.append(message)
        return found

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue."""
        return self.broker.queue_depths().get(queue, 0)

    def snapshot(self) -> FleetView:
        """The fleet as it is now: its tree, slots at work, counts."""
        return self.fleet.snapshot()

    @property
    def now(self) -> float:
        """Seconds since the fleet was READY."""
        return self._life.now

    @property
    def certificates(self) -> Sequence[Certificate]:
        """One for each run of the fleet that has ended: those that were killed, and after the block the last one."""
        return self._life.certificates

    @property
    def trace(self) -> Sequence[str]:
        """What has happened, a line each: the same lines for the same seed."""
        return self._book.trace

    # -- what breaks it -----------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Have something go wrong now, beside the plan (``fault.at`` is not looked at); returns when it is over."""
        await self._breaker.strike(fault)

    def check(self) -> None:
        """Raise ``Violation`` when a message was lost, a retry lost its count, the policy allowed fewer attempts, or
        the certificate of a run that has ended does not account for every message.

        It is called at the end of the block, too.
        """
        for certificate in self.certificates:
            if not certificate.balanced:
                raise Violation(f"a certificate is not balanced: {certificate}")
        plans, depths, at_work = self.fleet._registry.consumers, self.broker.queue_depths(), self._at_work()
        delayed = sum(depth for name, depth in depths.items() if name.startswith(DELAYS))
        waiting = {plan.name: depths.get(plan.name, 0) + delayed + at_work[plan.name] for plan in plans}
        self._book.check(waiting, {plan.name: len(plan.retry.delays) + 1 for plan in plans})

    # -- details ------------------------------------------------------------------------------

    def _at_work(self) -> Counter[str]:
        """By queue: messages that are in the fleet's hands."""
        count: Counter[str] = Counter()
        for one in self.fleet.snapshot().consumers if self._life.running else ():
            count[one.queue] += sum(slot.size for slot in one.slots) + one.retrying + one.count.missing
        return count

    def _busy(self) -> list[str]:
        busy = [] if self._life.running else ["the fleet is being started"]
        depths, queues = self.broker.queue_depths(), {plan.name for plan in self.fleet._registry.consumers}
        for name, depth in depths.items():
            if depth and (name in queues or name.startswith(DELAYS)):
                busy.append(f"{depth} wait in {name!r}")
        return busy + [f"{count} of {queue!r} are at work" for queue, count in self._at_work().items() if count]


@asynccontextmanager
async def open_simulation(
    fleet: Fleet, *, faults: FaultPlan = NO_FAULTS, queues: Collection[str] | None = None
) -> AsyncIterator[Simulation]:
    """Run a fleet on a broker of its own in memory while the block runs, and break it by a plan.

    The block is entered when the fleet is READY; then the plan's time begins.  Its end drains the fleet, and checks
    (see ``Simulation.check``).  Inside ``simulate``, or under trio's ``MockClock``, hours take milliseconds; plain
    functions are called in the event loop, for a clock that jumps waits for no thread.

    Args:
        queues: only the consumers of these; None: all.
    """
    name = f"simulation-{next(_numbers)}"
    broker = memory_broker(name)
    broker.clock = trio.current_time
    ours, book = fleet.on(f"memory://{name}", queues=queues), Book()
    failure: BaseException | None = None
    try:
        async with (
            ours.open() as client,
            ours._address.open("onlooker") as onlooker,
            trio.open_nursery() as nursery,
        ):
            life = Life(ours, nursery, onlooker, book)
            breaker = Breaker(broker, book, life)
            # What is left out has its queue all the same: handlers publish there.
            kept = ours._registry.consumers
            await onlooker.declare(*(plan.queue for plan in fleet._registry.consumers if plan not in kept))
            kept[:] = [breaker.around(plan) for plan in kept]
            sim = Simulation(broker, client, onlooker, life, breaker, book)
            await life.begin()
            nursery.start_soon(breaker.carry_out, faults)
            try:
                yield sim
            except (Exception, KeyboardInterrupt) as error:
                failure = error  # bare, not in the nursery's group
            finally:
                breaker.stop()
                life.end()
        if failure is not None:
            raise failure
        sim.check()
    finally:
        forget_memory_broker(name)
