"""Resources: opened first, closed last, and what depends on one restarts with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import trio

from kombu_actors.broker import Broker
from kombu_actors.fleet import Depends, Fleet, Message, Retry
from kombu_actors.supervisors import ChildState
from tests.conformance.realms import Realm

from .support import PATIENCE, eventually, make_fleet, ready, running


class Pool:
    """Something that handlers depend on, and that can die."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.die = trio.Event()


async def test_resources_are_opened_first_and_closed_last(realm: Realm, broker: Broker) -> None:
    """In the order of dependency; the last handler that uses one is done before it is closed."""
    fleet = make_fleet(realm)
    story, begun = list[str](), trio.Event()

    @fleet.resource
    async def base() -> AsyncIterator[str]:
        story.append("base opened")
        yield "base"
        story.append("base closed")

    @fleet.resource
    async def derived(below: Annotated[str, Depends(base)]) -> AsyncIterator[str]:
        story.append(f"derived opened on {below}")
        yield "derived"
        story.append("derived closed")

    @fleet.consumer("jobs")
    async def handle(payload: str, it: Annotated[str, Depends(derived)]) -> None:
        begun.set()
        await trio.sleep(0.1)
        story.append(f"{payload} handled with {it}")

    async with running(fleet):
        await broker.publish("a", routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await begun.wait()
    assert story == [
        "base opened",
        "derived opened on base",
        "a handled with derived",
        "derived closed",
        "base closed",
    ]


async def test_a_resource_that_dies_restarts_what_depends_on_it(realm: Realm, broker: Broker) -> None:
    """Handlers are cancelled, and their messages handled again with the new one: no attempt; others don't notice."""
    fleet = make_fleet(realm, retry=Retry(delays=()))
    pools, used = list[Pool](), list[tuple[str, int, int]]()
    begun, done, undisturbed, finish = trio.Event(), trio.Event(), trio.Event(), trio.Event()

    @fleet.resource
    async def pool() -> AsyncIterator[Pool]:
        pools.append(Pool(len(pools)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dies_when_told, pools[-1])
            yield pools[-1]
            nursery.cancel_scope.cancel()

    @fleet.resource
    async def above(below: Annotated[Pool, Depends(pool)]) -> AsyncIterator[int]:
        yield below.number

    @fleet.consumer("jobs")
    async def handle(payload: str, message: Message, number: Annotated[int, Depends(above)]) -> None:
        used.append((payload, message.attempt, number))
        begun.set()
        if number == 0:
            await trio.sleep_forever()
        done.set()

    @fleet.consumer("others")
    async def other(payload: str) -> None:
        await finish.wait()
        undisturbed.set()

    async with running(fleet) as left:
        await broker.publish("a", routing_key="jobs")
        await broker.publish("b", routing_key="others")
        with trio.fail_after(PATIENCE):
            await begun.wait()
            pools[0].die.set()
            await done.wait()
            finish.set()
            await undisturbed.wait()
        tree = fleet.snapshot().tree
        views = {path: tree.find(path) for path in ("resources/pool", "work/consumers/jobs", "work/consumers/others")}
        assert {path: view.epoch for path, view in views.items() if view} == {
            "resources/pool": 2,
            "work/consumers/jobs": 1,
            "work/consumers/others": 1,
        }
    assert used == [("a", 1, 0), ("a", 1, 1)]
    count = left.certificate.queues["jobs"]
    assert (count.received - count.returned, count.acked, count.retried, count.dead_lettered) == (1, 1, 0, 0)


async def dies_when_told(pool: Pool) -> None:
    await pool.die.wait()
    raise ConnectionError("the pool is gone")


async def test_a_consumer_waits_for_its_resource_and_says_so() -> None:
    """While the resource can't be opened, messages stay in the queue; it is tried again with growing delays."""
    fleet = Fleet("memory://waits-for-resource")
    tries, may_open, handled = 0, False, trio.Event()

    @fleet.resource
    async def pool() -> AsyncIterator[int]:
        nonlocal tries
        tries += 1
        if tries == 2 and not may_open:
            raise ConnectionError("not yet")
        async with trio.open_nursery() as nursery:
            die = trio.Event()
            nursery.start_soon(dies_when_told, made := Pool(tries))
            die = made.die
            if tries == 1:
                first.append(die)
            yield tries
            nursery.cancel_scope.cancel()

    first = list[trio.Event]()

    @fleet.consumer("jobs")
    async def handle(payload: str, number: Annotated[int, Depends(pool)]) -> None:
        handled.set()

    async with running(fleet), fleet.open() as client:
        first[0].set()

        def waits() -> bool:
            view = fleet.snapshot().tree.find("work/consumers/jobs")
            return view is not None and view.state is ChildState.DEGRADED and "'pool'" in str(view.degraded)

        await eventually(waits)
        await client.publish("jobs", "a")
        with trio.fail_after(PATIENCE):
            await handled.wait()
    assert tries == 3


async def test_what_is_in_hand_when_a_resource_dies_is_back(realm: Realm, broker: Broker) -> None:
    """Also what no handler had begun."""
    fleet = make_fleet(realm)
    pools, begun = list[Pool](), trio.Event()

    @fleet.resource
    async def pool() -> AsyncIterator[Pool]:
        if pools:
            await trio.sleep_forever()
        pools.append(Pool(0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dies_when_told, pools[-1])
            yield pools[-1]
            nursery.cancel_scope.cancel()

    @fleet.consumer("jobs", prefetch=5)
    async def handle(payload: int, it: Annotated[Pool, Depends(pool)]) -> None:
        begun.set()
        await trio.sleep_forever()

    async with running(fleet):
        await broker.publish_many(range(5), routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await begun.wait()
            pools[0].die.set()
            while await ready(broker, "jobs") < 5:  # noqa: ASYNC110  # the broker tells only who asks
                await trio.sleep(0.01)
