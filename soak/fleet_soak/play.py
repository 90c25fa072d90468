"""One soak: a fleet in worker processes, its load, its faults, and the check of its history."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import islice
from pathlib import Path

import attrs
import trio

from kombu_actors.broker import Broker, open_broker
from kombu_actors.errors import KombuError
from kombu_actors.fleet import Client
from kombu_actors.fleet.processes import Processes, Task
from kombu_actors.fleet.program import Happened
from tests.support.proxy import FaultProxy

from .faults import BETWEEN, NOBODY, ONE_WORKER, Fault, Planned, faults
from .history import History
from .kinds import Kind, kind_of
from .shop import CONCURRENCY, DIARY, OPTIONS, SIDE, URL, WORK, fleet
from .striking import Node, Striker

WINDOW = 50
"""Publishes under way at most: what a session that is lost may have sent twice."""
SIDE_PACE = 0.1
PREFETCH = 2 * (CONCURRENCY + 2)
"""Messages that a worker may hold."""
IN_WORK = 2 * CONCURRENCY
"""Retries and dead letters that a worker may be publishing."""
WARM = 20.0
"""Seconds after which a worker's memory is compared with what it keeps in the end."""
LIVED = 40.0
"""Seconds that it has to live for that."""
NEWS = 1.5
"""Seconds that news of a worker take at most: what its status says before that may be from before the fault."""
DONE_WITHIN = 120.0
"""Seconds for all to be handled when nothing is published any more: poison has to come three times."""


@attrs.frozen(kw_only=True)
class Terms:
    """How long, how much, and what is asked for."""

    seconds: float
    rate: float = 500.0
    """Messages a second, as far as the machine can."""
    processes: int = 4
    between: tuple[float, float] = BETWEEN
    faults: int | None = None
    """How many; None: as many as there is time for."""
    ready_within: float = 5.0
    """Seconds from each heal until all of it is READY."""
    growth: int = 5_000_000
    """Bytes that a worker may come to keep more."""
    say: Callable[[str], None] = print


@attrs.define
class Figures:
    """What was seen."""

    struck: Counter[Fault] = attrs.Factory(Counter)
    ready: list[tuple[float, str]] = attrs.Factory(list)
    """Seconds from each heal to READY, and what it was."""
    deaths: int = 0
    deaf: int = 0
    growths: list[int] = attrs.Factory(list)
    seconds: float = 0.0

    def __str__(self) -> str:
        slowest = ", ".join(f"{seconds:.1f} s after {what}" for seconds, what in sorted(self.ready, reverse=True)[:3])
        mean = sum(seconds for seconds, _ in self.ready) / max(len(self.ready), 1)
        growth = f"{max(self.growths) / 1e6:.1f} MB" if self.growths else "not seen"
        return (
            f"{self.struck.total()} faults in {self.seconds:.0f} s, {self.deaths} workers died; READY again after "
            f"{mean:.1f} s in the mean, at most {slowest}; "
            f"memory grew by {growth} at most ({len(self.growths)} workers); {self.deaf} steps against deafness"
        )


class Soak:
    """Owns all of it."""

    def __init__(self, node: Node, seed: int, directory: Path, terms: Terms) -> None:
        self.history = History()
        self.figures = Figures()
        self._node = node
        self._seed = seed
        self._directory = directory
        self._terms = terms
        self._wrong: list[str] = []
        self._stopped = False
        self._allowed = 0
        """Repetitions that faults explain."""

    async def run(self) -> None:
        """Raises ``AssertionError`` with what is wrong."""
        os.environ[DIARY] = str(self._directory)
        with FaultProxy(self._node.port) as proxy:
            url = self._node.url(port=proxy.port)
            os.environ[URL] = url
            task = Task(fleet="soak.fleet_soak.shop:fleet", log_level="critical")
            here = fleet.on(url, options=OPTIONS)
            self._program = Processes(here, task, self._terms.processes, restarts=1000)
            async with (
                open_broker(self._node.url(), keep_dialling=True) as self._operator,
                self._running(),
                here.open() as client,
            ):
                self._striker = Striker(self._node, proxy, self._program, self._operator, self.history)
                await self._load(client)
                await self._settle()
        self._check()

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """The program, and who looks at it."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listen)
            async with trio.open_nursery() as inner:
                await inner.start(partial(self._program.run, signals=False))
                nursery.start_soon(self._weigh)
                try:
                    yield
                finally:
                    self._program.stop("the soak is over")
            nursery.cancel_scope.cancel()

    # -- the load -------------------------------------------------------------------------------

    async def _load(self, client: Client) -> None:
        began = time.monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish, client)
            nursery.start_soon(self._publish_aside, client)
            nursery.start_soon(self._read_diaries)
            await self._strike_all(began + self._terms.seconds)
            self._stopped = True
            nursery.cancel_scope.deadline = trio.current_time() + 30
        self.figures.seconds = time.monotonic() - began

    async def _publish(self, client: Client) -> None:
        began, given = trio.current_time(), 0
        room = trio.CapacityLimiter(WINDOW)

        async def publish(number: int) -> None:
            try:
                await client.publish(WORK, number, message_id=str(number), timeout=30)
                self.history.confirmed.add(number)
            except KombuError:
                pass  # nobody was told that it arrived
            finally:
                room.release_on_behalf_of(number)

        async with trio.open_nursery() as nursery:
            while not self._stopped:
                number = self.history.attempted
                await room.acquire_on_behalf_of(number)
                self.history.attempted += 1
                nursery.start_soon(publish, number)
                given += 1
                due = began + given / self._terms.rate
                if due < trio.current_time() - 1:
                    began, given = trio.current_time(), 0  # what could not be published in time isn't made up for
                await trio.sleep_until(due)

    async def _publish_aside(self, client: Client) -> None:
        number = 0
        while not self._stopped:
            await self._striker.side_may.wait()
            try:
                await client.publish(SIDE, number, message_id=f"side-{number}", timeout=30)
                self.history.side_confirmed.add(number)
            except KombuError:
                pass  # deleted, or nobody was told
            number += 1
            await trio.sleep(SIDE_PACE)

    # -- the faults -------------------------------------------------------------------------------

    async def _strike_all(self, until: float) -> None:
        plan = faults(self._seed, self._terms.between)
        for planned in plan if self._terms.faults is None else islice(plan, self._terms.faults):
            left = until - time.monotonic()
            if planned.after > left:
                await trio.sleep(max(left, 0.0))
                return
            await trio.sleep(planned.after)
            self._allowed += self._cost(planned.fault)
            if await self._striker.strike(planned):
                self.figures.struck[planned.fault] += 1
                await self._until_ready(planned)

    def _cost(self, fault: Fault) -> int:
        """Repetitions that it explains."""
        workers = 0 if fault in NOBODY else 1 if fault in ONE_WORKER else self._terms.processes
        cost = workers * (PREFETCH + IN_WORK) + (WINDOW if workers > 1 else 0)
        # RabbitMQ has not written the acks of the last half second.
        return cost + (int(self._terms.rate) if fault is Fault.KILL_BROKER else 0)

    async def _until_ready(self, planned: Planned) -> None:
        healed = last_missed = time.monotonic()
        bound = self._terms.ready_within
        with trio.move_on_after(6 * bound):
            while time.monotonic() < healed + NEWS or not self._program.status().ready:
                if not self._program.status().ready:
                    last_missed = time.monotonic()
                await trio.sleep(0.05)
        took = last_missed - healed
        self.figures.ready.append((took, str(planned)))
        self._terms.say(f"  {planned}: READY after {took:.2f} s")
        if took > bound:
            why = "; ".join(self._program.status().reasons) or "it is now"
            self._wrong.append(f"{planned}: not READY within {bound:g} s of its heal: {took:.1f} s; {why}")

    # -- looking on -------------------------------------------------------------------------------

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._program.events(100_000) as stream:
            task_status.started()
            async for event in stream:
                assert isinstance(event, Happened)
                if event.record["event"] == "process_died":
                    self.figures.deaths += 1
                    # Of poison, and of kills, which have been counted: twice is no harm.
                    self._allowed += PREFETCH + IN_WORK
                elif event.record["event"] == "consumer_deaf":
                    self.figures.deaf += 1
                    self._terms.say(f"  {event.record}")

    async def _read_diaries(self) -> None:
        while not self._stopped:
            self.history.read(self._directory)
            await trio.sleep(1.0)

    async def _weigh(self) -> None:
        """How much more memory each worker keeps than when it was warm."""
        began: dict[int, float] = {}
        warm: dict[int, int] = {}
        last: dict[int, tuple[float, int]] = {}
        try:
            while True:
                now = trio.current_time()
                for process in self._program.processes():
                    if process.pid is None or not process.rss:
                        continue
                    age = now - began.setdefault(process.pid, now)
                    if age >= WARM:
                        warm.setdefault(process.pid, process.rss)
                    last[process.pid] = (age, process.rss)
                await trio.sleep(1.0)
        finally:
            self.figures.growths = [last[pid][1] - rss for pid, rss in warm.items() if last[pid][0] >= LIVED]

    # -- the end ----------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until everything has become what it is to be."""
        history = self.history
        with trio.move_on_after(DONE_WITHIN):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_dead_letters, self._operator)
                while True:
                    history.read(self._directory)
                    if not (history.open or history.side_open or history.to_be_dead - set(history.dead)):
                        break
                    await trio.sleep(0.5)
                nursery.cancel_scope.cancel()

    async def _read_dead_letters(self, broker: Broker) -> None:
        async with broker.subscribe(f"{WORK}.dead", prefetch=500) as letters:
            async for letter in letters:
                self.history.bury(letter.payload_as(int), str(letter.headers.get("ka-reason", "")))
                letter.ack()

    def _check(self) -> None:
        wrong = [*self._wrong, *self.history.wrong(self._allowed)]
        certificate = self._program.certificate
        if certificate is None or not certificate.balanced:
            wrong.append(f"the certificate's sums are wrong: {certificate}")
        grown = [growth for growth in self.figures.growths if growth > self._terms.growth]
        if grown:
            wrong.append(f"{len(grown)} workers came to keep up to {max(grown) / 1e6:.1f} MB more")
        if not any(kind_of(number) is Kind.POISON for number in self.history.dead) and self.history.attempted > 4000:
            wrong.append("no poison was parked")
        assert not wrong, f"seed {self._seed}: " + "\n".join(wrong) + f"\n{self}"

    def __str__(self) -> str:
        return f"{self.history}; {self.figures}"


async def play(node: Node, seed: int, directory: Path, terms: Terms) -> Soak:
    """One soak; raises ``AssertionError`` with what is wrong."""
    random.seed(seed)
    soak = Soak(node, seed, directory, terms)
    await soak.run()
    return soak
