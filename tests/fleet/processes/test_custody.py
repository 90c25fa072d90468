"""A suspect is begun when nothing else is in hand; those that take long get their time in turns."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.fleet import Depends, Fleet
from kombu_actors.fleet._custody import PATIENCE, REST, Custody, NotBegun, Suspect
from kombu_actors.fleet._hands import JOB, Key, in_hand, label_of, queue_label
from kombu_actors.fleet._threads import Threads
from kombu_actors.fleet.message import Message, Outlet
from kombu_actors.fleet.policy import Reject
from kombu_actors.transport.memory import forget_memory_broker
from tests.fleet.support import running

LABEL = label_of(queue_label("jobs"), "other")


@pytest.fixture
def custody() -> Iterator[Custody]:
    """With room for some messages."""
    descriptor = os.memfd_create("test")
    made = Custody(descriptor)
    made.reserve(10)
    yield made
    os.close(descriptor)


@pytest.fixture
async def message() -> AsyncIterator[Message]:
    """One that was delivered before."""
    async with open_broker("memory://custody") as broker:
        await broker.declare(QueueSpec(name="jobs", auto_delete=True))
        await broker.publish(1, routing_key="jobs", message_id="suspect")
        async with broker.subscribe("jobs") as messages:
            (await anext(messages)).requeue()
            delivered = await anext(messages)
            yield Message(delivered, "jobs", cast(Outlet, broker))
            delivered.ack()


def holds_back(custody: Custody) -> bool:
    """Asked anew each time."""
    return custody.holds_back


def noted(custody: Custody) -> list[Key]:
    """What the parent would read if the process died now."""
    descriptor = custody._hands._descriptor
    return in_hand(os.pread(descriptor, os.fstat(descriptor).st_size, 0))


async def answer(custody: Custody, *, deaths: int = 0, alone: bool = False, condemned: str | None = None) -> None:
    """Be the parent."""
    question = await custody.said.receive()
    assert "ask" in question
    assert (question["queue"], question["message"]) == ("jobs", "suspect")
    custody.answered(
        {
            "answer": question["ask"],
            "queue": "jobs",
            "message": "suspect",
            "deaths": deaths,
            "alone": alone,
            "condemned": condemned,
        }
    )


async def test_a_suspect_waits_for_others_and_they_for_it_in_turns(
    custody: Custody, message: Message, autojump_clock: MockClock
) -> None:
    """Ten seconds nothing else begins; then others do for half a minute; then it has twenty."""
    cell = custody.take(LABEL)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: answer(custody, deaths=2, alone=True))

        async def other_work() -> None:
            await wait_all_tasks_blocked()
            assert holds_back(custody)
            await trio.sleep(PATIENCE + 1)
            assert not holds_back(custody)
            await trio.sleep(REST + PATIENCE)
            assert holds_back(custody)
            custody.drop([cell])

        nursery.start_soon(other_work)
        suspect = await custody.admit(message, trio.Event())
    assert suspect is not None
    assert trio.current_time() - began == pytest.approx(PATIENCE + 1 + REST + PATIENCE)
    assert holds_back(custody)
    custody.release(suspect, survived=True)
    assert not holds_back(custody)
    assert await custody.said.receive() == {"left": ["jobs", "suspect"], "survived": True, "alone": True}


async def test_a_thread_that_hangs_is_not_waited_for(custody: Custody, message: Message) -> None:
    """It may never end.  But it stays noted: should the process die now, the suspect was not alone."""
    release = threading.Event()
    threads = Threads(1, lambda running: None)
    suspect = Suspect(("jobs", "suspect"), alone=True)

    def hang(scope: trio.CancelScope) -> None:
        trio.from_thread.run_sync(scope.cancel)
        release.wait()

    with trio.CancelScope() as scope, custody.holding(queue_label("jobs"), (message,), (), threads):
        await threads.call(message.id, hang, scope)
    try:
        with trio.fail_after(1):
            await custody._wait_alone(suspect, trio.Event())
        assert noted(custody) == [("jobs", "suspect")]
    finally:
        release.set()
    with trio.fail_after(5):
        while threads.stuck:
            await threads.wait_room()
    assert noted(custody) == []


async def test_a_job_and_a_suspect_wait_for_each_other(
    custody: Custody, message: Message, autojump_clock: MockClock
) -> None:
    """So neither is blamed for the other."""
    order = list[str]()

    async def job(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await custody.wait_nobody_alone()
        with custody.running("sweep"):
            task_status.started()
            order.append("job begins")
            assert noted(custody) == [(JOB, "sweep")]
            await trio.sleep(5)
            order.append("job ends")

    async with trio.open_nursery() as nursery:
        await nursery.start(job)
        nursery.start_soon(lambda: answer(custody, deaths=2, alone=True))
        suspect = await custody.admit(message, trio.Event())
        assert suspect is not None
        nursery.start_soon(job)
        await wait_all_tasks_blocked()
        order.append("suspect")
        custody.release(suspect, survived=True)
    assert order == ["job begins", "job ends", "suspect", "job begins", "job ends"]


@pytest.mark.parametrize("longest", [5.0, 100.0, 3600.0])
async def test_a_suspect_waits_for_a_time_that_the_longest_handler_sets(
    longest: float, custody: Custody, message: Message, autojump_clock: MockClock
) -> None:
    """Though there is always another one to begin: three times as long as that, and half a minute at each doubling."""

    async def busy() -> None:
        while True:
            await custody.wait_nobody_alone()
            cell = custody.take(LABEL)
            await trio.sleep(longest)
            custody.drop([cell])

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(busy)
            await trio.sleep(longest / 3)
        nursery.start_soon(lambda: answer(custody, deaths=2, alone=True))
        assert await custody.admit(message, trio.Event()) is not None
        doublings = math.ceil(max(math.log2(longest / PATIENCE), 0))
        assert trio.current_time() - began - longest <= 3 * longest + REST * doublings
        nursery.cancel_scope.cancel()


async def test_an_end_of_the_shift_gives_the_turn_back(
    custody: Custody, message: Message, autojump_clock: MockClock
) -> None:
    """Before the answer or after it: the parent hears that the message was not begun."""
    draining = trio.Event()
    for answered in (False, True):
        draining = trio.Event()
        cell = custody.take(LABEL)
        async with trio.open_nursery() as nursery:
            if answered:
                nursery.start_soon(lambda: answer(custody, deaths=2, alone=True))

            async def drain(draining: trio.Event = draining) -> None:
                await trio.sleep(1)
                draining.set()
                custody.wake()

            nursery.start_soon(drain)
            with pytest.raises(NotBegun):
                await custody.admit(message, draining)
        if not answered:
            await answer(custody, deaths=2, alone=True)  # too late
        assert await custody.said.receive() == {"left": ["jobs", "suspect"], "survived": False, "alone": True}
        assert not holds_back(custody)
        custody.drop([cell])


async def test_who_is_condemned_is_not_begun(custody: Custody, message: Message) -> None:
    """It is rejected, with the reason; who is not suspect is begun at once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: answer(custody, deaths=3, condemned="was in hand"))
        with pytest.raises(Reject, match="was in hand"):
            await custody.admit(message, trio.Event())
        nursery.start_soon(lambda: answer(custody))
        assert await custody.admit(message, trio.Event()) is None


async def test_a_message_is_given_back_when_its_sorting_is_cancelled(custody: Custody) -> None:
    """A resource goes down while the parent is asked about it: it is back in its queue, counted, and comes again."""
    fleet = Fleet("memory://sorting")
    fleet.custody = custody
    pools, handled = list[trio.Event](), trio.Event()

    @fleet.resource
    async def pool() -> AsyncIterator[int]:
        pools.append(down := trio.Event())

        async def fail() -> None:
            await down.wait()
            raise ConnectionError("the pool is gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            yield len(pools)
            nursery.cancel_scope.cancel()

    @fleet.consumer("jobs", key=lambda job: job)
    async def handle(job: str, number: Annotated[int, Depends(pool)]) -> None:
        assert number == 2
        handled.set()

    async def acquit() -> None:
        async for said in custody.said:
            assert "ask" in said
            custody.answered(
                {
                    "answer": said["ask"],
                    "queue": "jobs",
                    "message": said["message"],
                    "deaths": 0,
                    "alone": False,
                    "condemned": None,
                }
            )

    async with open_broker("memory://sorting") as broker:
        await broker.declare(QueueSpec(name="jobs"))
        await broker.publish("a", routing_key="jobs")
        async with broker.subscribe("jobs") as messages:
            (await anext(messages)).requeue()  # who is delivered again is asked about
    async with trio.open_nursery() as nursery:
        async with running(fleet) as left:
            await custody.said.receive()
            pools[0].set()
            nursery.start_soon(acquit)
            await handled.wait()
        nursery.cancel_scope.cancel()
    count = left.certificate.queues["jobs"]
    assert count.acked == 1
    assert count.received == count.returned + 1 > 1
    forget_memory_broker("sorting")
