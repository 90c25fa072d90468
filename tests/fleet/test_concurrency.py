"""Concurrency, lanes, batches, threads: who is at work, in which order, and what becomes of the others."""

from __future__ import annotations

import threading
from collections import defaultdict

import trio

from kombu_actors.broker import Broker
from kombu_actors.fleet import Batch, Fleet, Message, Reject, Retry
from kombu_actors.fleet.events import HandlerStuck
from kombu_actors.supervisors import EventStream
from tests.conformance.realms import Realm

from .support import PATIENCE, eventually, make_fleet, ready, running, take


async def test_as_many_handlers_as_asked_for(realm: Realm, broker: Broker) -> None:
    """Never more, and as many when there is work."""
    fleet = make_fleet(realm)
    at_work, most, handled = 0, 0, 0
    full, done = trio.Event(), trio.Event()

    @fleet.consumer("jobs", concurrency=5)
    async def handle(payload: int) -> None:
        nonlocal at_work, most, handled
        at_work += 1
        most = max(most, at_work)
        if at_work == 5:
            full.set()
        await full.wait()
        await trio.lowlevel.checkpoint()
        at_work -= 1
        handled += 1
        if handled == 20:
            done.set()

    async with running(fleet):
        await broker.publish_many(range(20), routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert most == 5


async def test_a_key_is_handled_in_order_and_keys_at_the_same_time(realm: Realm, broker: Broker) -> None:
    """One of a key at a time, in the queue's order, while others pass."""
    fleet = make_fleet(realm)
    orders, at_work = defaultdict[str, list[int]](list), set[str]()
    together, done = False, trio.Event()

    @fleet.consumer("jobs", concurrency=4, key=lambda job: job[0])
    async def handle(job: list[str | int]) -> None:
        nonlocal together
        key, number = str(job[0]), int(job[1])
        assert key not in at_work
        at_work.add(key)
        together = together or len(at_work) > 1
        await trio.sleep(0.001)
        orders[key].append(number)
        at_work.remove(key)
        if sum(map(len, orders.values())) == 60:
            done.set()

    async with running(fleet) as left:
        await broker.publish_many([["abc"[n % 3], n] for n in range(60)], routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert together
    assert dict(orders) == {key: list(range(start, 60, 3)) for start, key in enumerate("abc")}
    assert left.certificate.queues["jobs"].acked == 60


async def test_a_lane_passes_or_waits_for_its_failed_message(realm: Realm, broker: Broker) -> None:
    """ "pass": those behind it go on; "block": they wait until it is handled, and other lanes don't."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.3,)))
    seen = defaultdict[str, list[tuple[str, int]]](list)
    done = trio.Event()

    async def handle(job: list[str], message: Message) -> None:
        seen[message.queue].append((job[1], message.attempt))
        if job[1] == "bad" and message.attempt == 1:
            raise ValueError
        if sum(map(len, seen.values())) == 8:
            done.set()

    fleet.consumer("passing", key=lambda job: job[0], concurrency=2)(handle)
    fleet.consumer("blocking", key=lambda job: job[0], concurrency=2, on_error="block")(handle)

    async with running(fleet) as left:
        for queue in ("passing", "blocking"):
            await broker.publish_many([["a", "bad"], ["a", "next"], ["b", "other"]], routing_key=queue)
        await eventually(lambda: any(lane.held_for is not None for lane in fleet.snapshot().consumers[1].lanes))
        lanes = {lane.key: lane for lane in fleet.snapshot().consumers[1].lanes}
        assert lanes["'a'"].waiting == 1
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert [one for one in seen["passing"] if one[0] != "other"] == [("bad", 1), ("next", 1), ("bad", 2)]
    assert [one for one in seen["blocking"] if one[0] != "other"] == [("bad", 1), ("bad", 2), ("next", 1)]
    assert seen["blocking"].index(("other", 1)) < seen["blocking"].index(("bad", 2))
    assert left.certificate.queues["blocking"].acked == 3
    assert left.certificate.queues["passing"].retried == 1


async def test_a_held_message_goes_back_at_the_drain_and_dies_at_its_last_attempt(realm: Realm, broker: Broker) -> None:
    """Nobody waits for a lane when the fleet ends; a lane goes on when its message is dead."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.05,)))
    handled = trio.Event()

    @fleet.consumer("jobs", key=lambda job: 1, on_error="block")
    async def handle(job: str) -> None:
        if job == "bad":
            raise ValueError
        handled.set()

    async with running(fleet):
        await broker.publish_many(["bad", "good"], routing_key="jobs")
        [dead] = await take(broker, "jobs.dead")
        with trio.fail_after(PATIENCE):
            await handled.wait()
    assert (dead.payload, dead.headers["ka-attempt"]) == ("bad", 2)

    slow = make_fleet(realm, retry=Retry(delays=(600,)))
    slow.consumer("jobs", key=lambda job: 1, on_error="block")(handle)
    async with running(slow) as left:
        await broker.publish_many(["bad", "good"], routing_key="jobs")
        await eventually(lambda: any(lane.held_for is not None for lane in slow.snapshot().consumers[0].lanes))
    assert left.certificate.queues["jobs"].returned == 2
    assert await ready(broker, "jobs") == 2


async def test_a_key_that_fails_fails_its_message(realm: Realm, broker: Broker) -> None:
    """An error in ``key``, and what is no key, are attempts that failed."""
    fleet = make_fleet(realm, retry=Retry(delays=()))

    @fleet.consumer("jobs", key=lambda job: job["key"])
    async def handle(job: dict[str, object]) -> None: ...

    async with running(fleet):
        await broker.publish_many([{}, {"key": []}, {"key": 1}], routing_key="jobs")
        dead = await take(broker, "jobs.dead", 2)
    assert sorted(str(one.headers["ka-error"]) for one in dead) == ["KeyError", "TypeError"]


async def test_batches_by_size_and_by_time(realm: Realm, broker: Broker) -> None:
    """A batch is full, or its first message has waited long enough; failures concern their messages only."""
    fleet = make_fleet(realm, retry=Retry(delays=()))
    sizes, done = list[int](), trio.Event()

    @fleet.consumer("events", batch=Batch(size=5, within=0.2))
    async def load(events: list[Message]) -> None:
        sizes.append(len(events))
        for event in events:
            if event.payload == 3:
                event.fail(ValueError("three"))
            if event.payload == 4:
                event.fail(Reject("four"))
        if sum(sizes) == 12:
            done.set()

    async with running(fleet) as left:
        await broker.publish_many(range(12), routing_key="events")
        with trio.fail_after(PATIENCE):
            await done.wait()
        dead = await take(broker, "events.dead", 2)
    assert sizes == [5, 5, 2]
    reasons = sorted((one.payload, one.headers["ka-reason"]) for one in dead)
    assert reasons == [(3, "failed: ValueError: three"), (4, "four")]
    count = left.certificate.queues["events"]
    assert (count.received, count.acked, count.dead_lettered) == (12, 10, 2)


async def test_a_batch_that_fails_fails_whole_and_leaves_out_what_cannot_be_decoded(
    realm: Realm, broker: Broker
) -> None:
    """An error that the handler raises is that of each of its messages."""
    fleet = make_fleet(realm, retry=Retry(delays=()))
    batches = list[list[int]]()

    @fleet.consumer("events", batch=Batch(size=3, within=0.2))
    def load(events: list[int]) -> None:
        batches.append(events)
        raise KeyError("all")

    async with running(fleet):
        await broker.publish_many([1, "two", 3], routing_key="events")
        dead = await take(broker, "events.dead", 3)
    assert batches == [[1, 3]]
    assert {str(one.payload): one.headers["ka-error"] for one in dead} == {
        "1": "KeyError",
        "3": "KeyError",
        "two": "PayloadError",
    }


async def test_a_plain_function_has_a_thread_and_a_stuck_one_is_reported(realm: Realm, broker: Broker) -> None:
    """Over its time it is STUCK, its message failed, and its slot takes others, up to a bound."""
    fleet = make_fleet(realm, retry=Retry(delays=()))
    let_go, done, trio_thread = threading.Event(), trio.Event(), threading.get_ident()
    handled = list[str]()

    @fleet.consumer("jobs", timeout=0.3)
    def handle(payload: str) -> None:
        assert threading.get_ident() != trio_thread
        if payload == "stuck":
            assert let_go.wait(PATIENCE)
        handled.append(payload)
        trio.from_thread.run_sync(done.set)

    try:
        async with running(fleet), fleet.events() as stream:
            await broker.publish_many(["stuck", "next"], routing_key="jobs")
            [dead] = await take(broker, "jobs.dead")
            assert dead.headers["ka-error"] == "HandlerTimeout"
            stuck = await next_of(stream, HandlerStuck)
            assert "let_go.wait" in "".join(stuck.stack)
            [view] = fleet.snapshot().consumers[0].stuck
            assert "let_go.wait" in "".join(view.stack)
            assert not done.is_set()  # one thread may hang, and does
            let_go.set()
            with trio.fail_after(PATIENCE):
                await done.wait()
            await eventually(lambda: "next" in handled)
            assert fleet.snapshot().consumers[0].stuck == ()
    finally:
        let_go.set()


async def next_of(stream: EventStream, kind: type[HandlerStuck]) -> HandlerStuck:
    with trio.fail_after(PATIENCE):
        async for event in stream:
            if isinstance(event, kind):
                return event
    raise AssertionError("the stream has ended")


async def test_fail_fast_tries_one_at_a_time_until_one_succeeds() -> None:
    """After so many failures in a row; then all slots work again."""
    fleet = Fleet("memory://fail-fast", retry=Retry(delays=(0.01,) * 20))
    alone, most_alone, calls, handled, done = 0, 0, 0, 0, trio.Event()

    @fleet.consumer("jobs", concurrency=8, fail_fast=8)
    async def handle(payload: int) -> None:
        nonlocal alone, most_alone, calls, handled
        narrow = fleet.snapshot().consumers[0].narrow  # those that had begun before finish beside
        calls += narrow
        alone += narrow
        most_alone = max(most_alone, alone)
        await trio.sleep(0.005)
        alone -= narrow
        if calls < 10:
            raise ValueError
        handled += 1
        if handled == 8:
            done.set()

    async with running(fleet) as left, fleet.open() as client:
        for number in range(8):
            await client.publish("jobs", number)
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert most_alone == 1
    assert left.certificate.queues["jobs"].acked == 8
