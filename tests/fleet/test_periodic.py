"""Periodic jobs: one tick in all processes, taken over when the holder dies; none missed for good."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.broker import Broker
from kombu_actors.fleet import Depends
from kombu_actors.fleet._periodic import Periodic
from kombu_actors.fleet.errors import FleetMistake
from kombu_actors.supervisors import open_supervisor
from kombu_actors.transport.memory import memory_broker
from tests.conformance.native import PATIENCE, payloads, ready
from tests.conformance.realms import Realm
from tests.conformance.test_recovery import lose_session
from tests.fleet.support import make_fleet, running
from tests.fleet.ticking import job_of, periodic_of, tree

REPOSITORY = Path(__file__).parents[2]
QUEUE = "ka.every.shop"
EVERY = 0.25


class Ticks:
    """A job that notes when it ran; others wait for that."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._more = trio.lowlevel.ParkingLot()

    async def tick(self) -> None:
        """The job."""
        self.times.append(trio.current_time())
        self._more.unpark_all()

    async def wait(self, count: int) -> None:
        """Until it ran so often."""
        with trio.fail_after(PATIENCE):
            while len(self.times) < count:
                await self._more.park()


async def test_a_job_ticks_at_its_interval(broker: Broker) -> None:
    """And its token is in the queue afterwards, which says up to when."""
    ticks = Ticks()
    periodic = periodic_of(broker, job_of(ticks.tick, EVERY))
    began = time.time()
    async with open_supervisor(tree(periodic)):
        await ticks.wait(5)
    assert ticks.times[4] - ticks.times[0] == pytest.approx(4 * EVERY, abs=0.3)
    count = await ready(broker, QUEUE)
    async with broker.subscribe(QUEUE) as messages:
        tokens = await payloads(messages, count)
    assert {token["job"] for token in tokens} == {"shop.sweep"}
    assert began < max(token["until"] for token in tokens) < time.time()


async def test_a_lost_session_neither_repeats_nor_forgets_a_tick(realm: Realm, broker: Broker) -> None:
    """The lease comes back with the connection, and the tokens with it."""
    ticks = Ticks()
    async with realm.open_broker() as other, open_supervisor(tree(periodic_of(other, job_of(ticks.tick, EVERY)))):
        await ticks.wait(2)
        await lose_session(realm, broker, "cut_connections")
        await ticks.wait(len(ticks.times) + 3)
    gaps = [later - earlier for earlier, later in pairwise(ticks.times)]
    assert min(gaps) > 0.05
    assert max(gaps) < 5


async def test_an_operator_deletes_the_queue(realm: Realm, broker: Broker) -> None:
    """The jobs go on: the queue is declared again, and so are the tokens."""
    ticks = Ticks()
    async with realm.open_broker() as other, open_supervisor(tree(periodic_of(other, job_of(ticks.tick, EVERY)))):
        await ticks.wait(2)
        await broker.delete_queue(QUEUE)
        await ticks.wait(len(ticks.times) + 3)


async def test_of_two_connections_one_ticks_and_the_other_takes_over(realm: Realm) -> None:
    """At once when the first one stops in order; the job's own time is not a tick."""
    first, second = Ticks(), Ticks()
    async with realm.open_broker() as one, realm.open_broker() as two:
        async with open_supervisor(tree(periodic_of(one, job_of(first.tick, EVERY)))):
            await first.wait(1)
            standing_by = periodic_of(two, job_of(second.tick, EVERY))
            async with open_supervisor(tree(standing_by)) as supervisor:
                await first.wait(3)
                assert second.times == []
                assert not standing_by.view()[0].holding
                await supervisor.stop()
        async with open_supervisor(tree(periodic_of(two, job_of(second.tick, EVERY)))):
            await second.wait(2)
    together = first.times + second.times
    assert all(later - earlier > 0.05 for earlier, later in pairwise(together))


async def test_a_failing_job_is_logged_and_ticks_on(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """A failure ends nothing; neither does garbage in its queue, nor the token of a job that is no more."""
    ticks = Ticks()

    async def fail() -> None:
        await ticks.tick()
        raise ValueError("no")

    periodic = periodic_of(broker, job_of(fail, EVERY))
    async with open_supervisor(tree(periodic)):
        await ticks.wait(1)
        await broker.publish(b"\xff", routing_key=QUEUE, content_type="application/json")
        await broker.publish({"job": "old", "turn": 1, "until": 1.0}, routing_key=QUEUE)
        await ticks.wait(3)
    assert periodic.view()[0].failures >= 2
    assert "job shop.sweep failed; it is not tried again before its next tick" in caplog.text


async def simulated(periodic: Periodic, seconds: float) -> None:
    """So long by the mock clock."""
    async with open_supervisor(tree(periodic)):
        await trio.sleep(seconds)


EPOCH = 1_800_000_000.0
"""When trio's mock clock begins: noon or so."""


def simulate(realm: Realm) -> None:
    """Have the broker go by trio's clock, too."""
    memory_broker(realm.url.removeprefix("memory://")).clock = trio.current_time


def mock_time() -> float:
    """The jobs' clock."""
    return EPOCH + trio.current_time()


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
async def test_a_tick_that_was_missed_is_made_up_once(autojump_clock: MockClock, realm: Realm, broker: Broker) -> None:
    """However many were missed while nobody was there; at first there is none to make up."""
    simulate(realm)
    ticks = Ticks()

    def periodic() -> Periodic:
        return periodic_of(broker, job_of(ticks.tick, 60), clock=mock_time)

    await simulated(periodic(), 59)
    assert ticks.times == []
    await simulated(periodic(), 62)
    assert len(ticks.times) == 2
    await trio.sleep(600)
    await simulated(periodic(), 1)
    assert len(ticks.times) == 3
    await simulated(periodic(), 60)
    assert len(ticks.times) == 4


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
async def test_a_tick_within_a_jobs_own_time_is_left_out(
    autojump_clock: MockClock, realm: Realm, broker: Broker
) -> None:
    """A job is never on top of itself, and doesn't run late for that."""
    simulate(realm)
    ticks = Ticks()

    async def slow() -> None:
        await ticks.tick()
        await trio.sleep(150)

    await simulated(periodic_of(broker, job_of(slow, 60), clock=mock_time), 60 * 6 + 1)
    gaps = [later - earlier for earlier, later in pairwise(ticks.times)]
    assert gaps == [pytest.approx(180, abs=0.1)]


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_jumps_costs_one_tick_at_most(
    autojump_clock: MockClock, realm: Realm, broker: Broker, jump: float
) -> None:
    """Forward: one is made up; back: the job goes on at the new time, instead of waiting an hour."""
    simulate(realm)
    ticks = Ticks()
    jumped = [0.0]
    periodic = periodic_of(broker, job_of(ticks.tick, 60), clock=lambda: mock_time() + jumped[0])
    async with open_supervisor(tree(periodic)):
        await trio.sleep(130)
        assert len(ticks.times) == 2
        jumped[0] = jump
        await trio.sleep(120)
        assert len(ticks.times) in (4, 5)


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
async def test_a_job_that_is_stopped_comes_to_its_end(autojump_clock: MockClock, realm: Realm, broker: Broker) -> None:
    """Within its grace; its tick is settled, and no other one begins."""
    simulate(realm)
    ended = []

    async def slow() -> None:
        await trio.sleep(2)
        ended.append(trio.current_time())

    def periodic() -> Periodic:
        return periodic_of(broker, job_of(slow, 60), clock=mock_time)

    await simulated(periodic(), 61)
    assert len(ended) == 1
    await simulated(periodic(), 10)
    assert len(ended) == 1


@contextmanager
def ticking(url: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process of the fleet."""
    command = [sys.executable, "-m", "tests.fleet.ticking", url, str(seconds)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "standing by\n"
            yield process
        finally:
            process.kill()


def read_tick(process: subprocess.Popen[str]) -> float:
    """When it ran next."""
    assert process.stdout is not None
    return float(process.stdout.readline())


@pytest.mark.parametrize("realm", ["amqp", "redis"], indirect=True)
def test_another_process_takes_over_within_five_seconds(realm: Realm) -> None:
    """When the holder is killed with signal 9; no tick is repeated, and those it missed are made up by one."""
    with ticking(realm.url, 1) as holder:
        before = [read_tick(holder) for _ in range(2)]
        with ticking(realm.url, 1) as heir:
            before.append(read_tick(holder))
            holder.kill()
            killed = time.time()
            after = [read_tick(heir) for _ in range(3)]
    assert after[0] - killed < 5
    seconds = [int(moment) for moment in before + after]
    assert len(set(seconds)) >= len(seconds) - 1
    assert after[2] - after[1] == pytest.approx(1, abs=0.5)


async def test_a_fleet_runs_its_jobs(realm: Realm) -> None:
    """With their resources; they are seen in the snapshot, and it may have nothing else to do."""
    fleet = make_fleet(realm)
    values = list[int]()
    twice = trio.Event()

    @fleet.resource
    async def pool() -> AsyncIterator[int]:
        yield 42

    @fleet.every(EVERY)
    async def sweep(number: Annotated[int, Depends(pool)]) -> None:
        values.append(number)
        if len(values) == 2:
            twice.set()

    @fleet.every("* * * * *", timezone="Europe/Berlin")
    def hourly() -> None:
        """In a thread."""

    with pytest.raises(FleetMistake, match=r"has a job named .*sweep.* already"):
        fleet.every(60)(sweep)
    async with running(fleet):
        await twice.wait()
        jobs = {job.name.rpartition(".")[2]: job for job in fleet.snapshot().jobs}
        assert fleet.snapshot().to_dict()["jobs"]
    assert values[:2] == [42, 42]
    assert set(jobs) == {"sweep", "hourly"}
    assert all(job.holding for job in jobs.values())
    assert jobs["sweep"].failures == 0
