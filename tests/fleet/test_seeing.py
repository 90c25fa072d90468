"""What a running fleet shows and is told: its tree, events, pauses, obstacles."""

from __future__ import annotations

import json
import logging

import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.errors import PreconditionFailed
from kombu_actors.fleet import CallNext, Fleet, Message, RemoteError, Retry, events
from kombu_actors.fleet._postponing import Postponer
from kombu_actors.supervisors import ChildFailed, ChildState, root_cause
from tests.conformance.realms import Realm

from .support import PATIENCE, eventually, make_fleet, ready, running, take, wait_ready


async def test_a_snapshot_shows_the_whole_fleet(realm: Realm, broker: Broker) -> None:
    """Its tree with both connections, and each slot at work with its message, attempt and age; as JSON, too."""
    fleet = make_fleet(realm, name="shop", retry=Retry(delays=(0.05,)))
    second, go_on = trio.Event(), trio.Event()

    @fleet.consumer("jobs", concurrency=3)
    async def handle(payload: str, message: Message) -> None:
        if message.attempt == 1:
            raise ValueError
        second.set()
        await go_on.wait()

    async with running(fleet):
        await broker.publish("a", routing_key="jobs", message_id="m1")
        with trio.fail_after(PATIENCE):
            await second.wait()
        view = fleet.snapshot()
        [consumer] = view.consumers
        [slot] = consumer.slots
        assert (slot.message_id, slot.attempt, slot.size) == ("m1", 2, 1)
        assert 0 <= slot.age < PATIENCE
        assert (consumer.count.received, consumer.count.retried, consumer.paused) == (2, 1, False)
        states = {path: found.state for path in PATHS if (found := view.tree.find(path)) is not None}
        assert states == dict.fromkeys(PATHS, ChildState.READY)
        assert set(view.connections) == {"consuming", "publishing"}
        assert json.loads(json.dumps(view.to_dict()))["consumers"][0]["slots"][0]["message_id"] == "m1"
        go_on.set()


PATHS = ("publishing", "consuming", "resources", "work", "work/consumers", "work/consumers/jobs")


async def test_events_tell_what_becomes_of_messages(realm: Realm, broker: Broker) -> None:
    """Retries and dead letters with their errors, the drain, and what happens to actors and connections."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.05,)))

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None:
        raise KeyError("bad")

    seen = list[object]()

    async def listen(task_status: trio.TaskStatus[None]) -> None:
        async with fleet.events() as stream:
            task_status.started()
            async for event in stream:
                seen.append(event)

    async with trio.open_nursery() as nursery, running(fleet):
        await nursery.start(listen)
        await broker.publish("a", routing_key="jobs", message_id="m1")
        await take(broker, "jobs.dead")
        await eventually(lambda: any(isinstance(one, events.MessageDeadLettered) for one in seen))
    [retried] = [one for one in seen if isinstance(one, events.MessageRetried)]
    assert (retried.queue, retried.message_id, retried.failed, retried.delay) == ("jobs", "m1", 1, 0.05)
    assert retried.path == "work/consumers/jobs"
    assert isinstance(retried.error, KeyError)
    [dead] = [one for one in seen if isinstance(one, events.MessageDeadLettered)]
    assert (dead.attempts, dead.reason) == (2, "failed 2 times, at last: KeyError: 'bad'")
    assert json.dumps(dead.to_dict())
    [drain] = [one for one in seen if isinstance(one, events.DrainBegan)]
    assert drain.reason == "the test is over"


async def test_a_paused_queue_is_left_to_others_until_it_is_resumed(realm: Realm, broker: Broker) -> None:
    """The handler at work finishes, what is not begun goes back, the state is visible; resuming goes on."""
    fleet = make_fleet(realm)
    handled, begun, go_on = list[int](), trio.Event(), trio.Event()

    @fleet.consumer("jobs", prefetch=4)
    async def handle(payload: int) -> None:
        begun.set()
        await go_on.wait()
        handled.append(payload)

    async with running(fleet):
        await broker.publish_many(range(4), routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await begun.wait()
            await fleet.pause("jobs")
            await wait_ready(broker, "jobs", 3)
            go_on.set()

            def rests() -> bool:
                view = fleet.snapshot().tree.find("work/consumers/jobs")
                return view is not None and view.degraded == "paused"

            await eventually(rests)
            assert handled == [0]
            assert fleet.snapshot().consumers[0].paused
            assert await ready(broker, "jobs") == 3
            await fleet.pause("jobs")
            fleet.resume("jobs")
            await eventually(lambda: len(handled) == 4)
    assert handled == [0, 1, 2, 3]


async def test_a_lost_session_is_no_attempt(realm: Realm, broker: Broker) -> None:
    """What was at work then is delivered again, and counted as unknown or returned, never as a failure."""
    fleet = make_fleet(realm)
    attempts, begun, go_on, done = list[int](), trio.Event(), trio.Event(), trio.Event()

    @fleet.consumer("jobs", concurrency=2)
    async def handle(payload: str, message: Message) -> None:
        attempts.append(message.attempt)
        if not message.redelivered:
            begun.set()
            await go_on.wait()
            assert message.lost
            raise ValueError("too late for anybody")
        done.set()

    async with running(fleet) as left:
        await broker.publish("a", routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await begun.wait()
            realm.cut_connections()
            await done.wait()
            go_on.set()
            await eventually(lambda: len(fleet.snapshot().consumers[0].slots) == 0)
    assert attempts == [1, 1]
    count = left.certificate.queues["jobs"]
    assert (count.received, count.acked, count.returned, count.retried) == (2, 1, 1, 0)


async def test_a_message_that_cannot_be_put_off_goes_back_after_a_while(
    realm: Realm, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither lost nor tried again at once; the consumer says that it isn't well, and is well when it works again."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.05,)))
    attempts, done = list[int](), trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: str, message: Message) -> None:
        attempts.append(message.attempt)
        if message.attempt == 1:
            raise ValueError
        done.set()

    real, refused = Postponer.postpone, 0

    async def refuse_once(*args: object, **options: object) -> None:
        nonlocal refused
        refused += 1
        if refused == 1:
            raise PreconditionFailed("no delays today")
        await real(*args, **options)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Postponer, "postpone", refuse_once)

    def view() -> str | None:
        found = fleet.snapshot().tree.find("work/consumers/jobs")
        assert found is not None
        return found.degraded

    async with running(fleet) as left:
        await broker.publish("a", routing_key="jobs")
        began = trio.current_time()
        await eventually(lambda: "no delays today" in str(view()))
        with trio.fail_after(PATIENCE):
            await done.wait()
        assert trio.current_time() - began > 0.5
        assert view() is None
    assert attempts == [1, 1, 2]
    count = left.certificate.queues["jobs"]
    assert (count.returned, count.retried, count.acked) == (1, 1, 1)


async def test_what_supervision_gives_up_for_is_raised(realm: Realm, broker: Broker) -> None:
    """A queue that exists with other settings: one exception, its cause the broker's answer, at once."""
    await broker.declare(QueueSpec(name="jobs", max_length=1))
    fleet = make_fleet(realm)

    @fleet.consumer(QueueSpec(name="jobs", max_length=2))
    async def handle(payload: str) -> None: ...

    with trio.fail_after(PATIENCE), pytest.raises(ChildFailed) as caught:
        await fleet.run()
    assert isinstance(root_cause(caught.value), PreconditionFailed)


async def test_middleware_wraps_each_call(realm: Realm, broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """The first registered is the outermost; it sees the message, the result and the error, for threads as well."""
    caplog.set_level(logging.CRITICAL, logger="kombu_actors.fleet")
    fleet = make_fleet(realm, retry=Retry(delays=()))
    story = list[object]()

    @fleet.middleware
    async def outer(message: Message, call_next: CallNext) -> object:
        story.append(f"outer {message.payload}")
        try:
            return await call_next(message)
        except KeyError as error:
            story.append(error.args[0])
            raise

    @fleet.middleware
    async def inner(message: Message, call_next: CallNext) -> object:
        story.append("inner")
        return await call_next(message)

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None:
        story.append("handler")
        raise KeyError("bad")

    @fleet.consumer("threads")
    def work(payload: str) -> None:
        story.append("thread")

    async with running(fleet):
        await broker.publish("a", routing_key="jobs")
        await take(broker, "jobs.dead")
        await broker.publish("b", routing_key="threads")
        await eventually(lambda: "thread" in story)
    assert story == ["outer a", "inner", "handler", "bad", "outer b", "inner", "thread"]


async def test_requests_are_answered_and_errors_are_the_askers(realm: Realm) -> None:
    """A value, or an error by name and text; an asker's error is neither tried again nor dead-lettered."""
    fleet = make_fleet(realm)

    @fleet.consumer("price")
    async def price(sku: str) -> int:
        if sku == "none":
            raise LookupError("no such thing")
        return len(sku)

    @fleet.consumer("plain")
    def plain(sku: str) -> dict[str, str]:
        return {"sku": sku}

    async with running(fleet) as left, fleet.open() as client:
        assert await client.request("price", "sku-1", timeout=PATIENCE) == 5
        assert await client.request("plain", "sku-1", timeout=PATIENCE) == {"sku": "sku-1"}
        with pytest.raises(RemoteError, match="no such thing") as caught:
            await client.request("price", "none", timeout=PATIENCE)
        assert caught.value.name == "LookupError"
        await client.publish("price", "nobody asks")
        await eventually(lambda: fleet.snapshot().consumers[0].count.acked == 3)
    assert left.certificate.queues["price"].acked == 3


async def test_message_publish_is_confirmed_before_the_ack(realm: Realm, broker: Broker) -> None:
    """What a handler publishes is there when its message is gone; what nobody would get is the handler's error."""
    fleet = make_fleet(realm, retry=Retry(delays=()))
    await broker.declare(QueueSpec(name="receipts"))

    @fleet.consumer("orders")
    async def charge(order: str, message: Message) -> None:
        await message.publish("receipts" if order == "good" else "nowhere", {"id": order}, message_id=f"r-{message.id}")

    async with running(fleet):
        await broker.publish("good", routing_key="orders", message_id="1")
        await broker.publish("bad", routing_key="orders", message_id="2")
        [dead] = await take(broker, "orders.dead")
        [receipt] = await take(broker, "receipts")
    assert (receipt.payload, receipt.message_id) == ({"id": "good"}, "r-1")
    assert (dead.message_id, dead.headers["ka-error"]) == ("2", "PublishReturned")


async def test_two_consumers_may_share_a_queue() -> None:
    """Each has an actor of its own; the certificate has the sum."""
    fleet = Fleet("memory://shared-queue")
    both, go_on = trio.Event(), trio.Event()
    at_work = list[str]()

    def register(name: str) -> None:
        @fleet.consumer("jobs", prefetch=1)
        async def handle(payload: int) -> None:
            at_work.append(name)
            if len(at_work) == 2:
                both.set()
            await go_on.wait()

    register("one")
    register("two")
    async with running(fleet) as left, fleet.open() as client:
        for number in range(2):
            await client.publish("jobs", number)
        with trio.fail_after(PATIENCE):
            await both.wait()
        go_on.set()
        await eventually(lambda: sum(view.count.acked for view in fleet.snapshot().consumers) == 2)
        assert [view.path for view in fleet.snapshot().consumers] == ["work/consumers/jobs", "work/consumers/jobs#2"]
    assert sorted(at_work) == ["one", "two"]
    assert left.certificate.queues["jobs"].acked == 2
