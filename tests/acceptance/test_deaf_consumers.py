"""Alive but deaf: a consumer that gets nothing though messages wait is woken, step by step; the innocent are not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec, open_broker
from kombu_actors.cli.exits import BUDGET_SPENT
from kombu_actors.errors import AccessRefused, ResourceLocked
from kombu_actors.fleet import ConsumerIsDeaf, Fleet
from kombu_actors.fleet._standing import standing
from kombu_actors.fleet.events import ConsumerDeaf, ConsumerHears
from kombu_actors.fleet.processes import Processes, Task
from kombu_actors.fleet.status import ProcessState
from kombu_actors.supervisors import Escalation, Event, root_cause
from tests.fleet.processes.shop import fleet as shop
from tests.fleet.processes.support import SHOP
from tests.fleet.support import eventually, ready, take
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.deaf import DeafAMQP, DeafRedis, Until
from tests.support.erlang import binary
from tests.support.proxy import FaultProxy

PATIENCE = 20.0
DEAF_AFTER = 0.45
LADDER = ["degraded", "consumer", "channel", "session", "process"]


@attrs.frozen
class Broken:
    """A broker, and the way to it that can go deaf."""

    url: str
    """Straight to it."""
    front_url: str
    front: DeafAMQP | DeafRedis
    port: int


@pytest.fixture(params=["amqp", "redis"])
def broken(request: pytest.FixtureRequest) -> Iterator[Broken]:
    """On each network transport."""
    if request.param == "amqp":
        rabbitmq: RabbitMQNode = request.getfixturevalue("rabbitmq")
        vhost: str = request.getfixturevalue("vhost")
        with DeafAMQP(rabbitmq.port) as amqp:
            yield Broken(rabbitmq.url(vhost=vhost), rabbitmq.url(vhost=vhost, port=amqp.port), amqp, rabbitmq.port)
    else:
        url: str = request.getfixturevalue("redis_url")
        server: RedisNode = request.getfixturevalue("redis_server")
        with DeafRedis(server.port) as redis:
            yield Broken(url, server.url(port=redis.port), redis, server.port)


@attrs.define
class Seen:
    """What came of a run."""

    handled: list[int] = attrs.Factory(list)
    events: list[ConsumerDeaf | ConsumerHears] = attrs.Factory(list)
    news: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    def heard(self, event: Event) -> None:
        if isinstance(event, ConsumerDeaf | ConsumerHears):
            self.events.append(event)
            self.news.unpark_all()

    @property
    def steps(self) -> list[str]:
        return [event.step for event in self.events if isinstance(event, ConsumerDeaf)]

    async def wait(self, until: Callable[[], bool]) -> None:
        """Until what is told of by a handler or an event."""
        with trio.fail_after(PATIENCE):
            while not until():
                await self.news.park()


def listener(url: str, seen: Seen, queue: str | QueueSpec = "work", **arguments: Any) -> Fleet:
    """A fleet that notes what it gets."""
    fleet = Fleet(url, name="deaf", deaf_after=DEAF_AFTER)

    @fleet.consumer(queue, **arguments)
    async def work(number: int) -> None:
        seen.handled.append(number)
        seen.news.unpark_all()

    return fleet


@contextlib.asynccontextmanager
async def running(fleet: Fleet, seen: Seen) -> AsyncIterator[None]:
    """While the block runs."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(fleet.run, listener=seen.heard))
        yield
        fleet.drain("the test is over")


async def fill(broker: Broker, queue: str = "work", count: int = 5) -> None:
    for number in range(count):
        await broker.publish(number, routing_key=queue)


@pytest.mark.parametrize(
    ("broken", "until"),
    [("amqp", "channel"), ("amqp", "session"), ("redis", "consumer"), ("redis", "session")],
    indirect=["broken"],
)
async def test_a_deaf_consumer_is_woken_by_making_anew_what_it_takes(broken: Broken, until: Until) -> None:
    """What is in between swallows its messages: it is said, then subscription, channel, session are made anew, as
    far as it takes; all messages are handled, and it is said that it hears."""
    seen = Seen()
    async with open_broker(broken.url) as broker, running(listener(broken.front_url, seen), seen):
        broken.front.deafen(until)
        await fill(broker)
        await seen.wait(lambda: sorted(set(seen.handled)) == [0, 1, 2, 3, 4])
        await seen.wait(lambda: isinstance(seen.events[-1], ConsumerHears))
    assert broken.front.swallowed
    assert seen.steps == LADDER[: LADDER.index(until) + 1]
    assert len(seen.events) == len(seen.steps) + 1
    first, last = seen.events[0], seen.events[-1]
    assert isinstance(first, ConsumerDeaf)
    assert (first.queue, last.step) == ("work", until)
    # Those that are swallowed are no longer ready: of five, all but those sent ahead.
    assert first.waiting >= 3
    assert last.silent_for > first.silent_for >= DEAF_AFTER


async def test_the_process_ends_when_nothing_else_helps(broken: Broken) -> None:
    """After the session the fleet ends with a failure, so that whoever runs the process begins another; the status has
    said why, and what was not handled is still there."""
    seen, reasons = Seen(), list[str]()
    fleet = listener(broken.front_url, seen)

    def listen(event: Event) -> None:
        seen.heard(event)
        if isinstance(event, ConsumerDeaf) and event.step == "session":
            reasons.extend(standing(fleet.snapshot().to_dict())[1])

    async with open_broker(broken.url) as broker:
        with trio.fail_after(PATIENCE), pytest.raises(ConsumerIsDeaf, match="wait in queue 'work'"):
            await until_it_ends(partial(fleet.run, listener=listen), broken, broker)
        assert await ready(broker, "work") == 5
    assert seen.steps == LADDER
    assert seen.handled == []
    assert any("work/consumers/work is degraded: deaf: " in reason for reason in reasons), reasons


@pytest.mark.parametrize("broken", ["redis"], indirect=True)
async def test_a_worker_process_that_stays_deaf_is_replaced(broken: Broken) -> None:
    """Its failure ends the process, not the program: the next one handles what waits, and it was nobody's poison."""
    task = Task(fleet=SHOP, url=broken.front_url, log_level="critical", changes={"deaf_after": DEAF_AFTER})
    program = Processes(shop.on(broken.front_url), task, 1)
    async with open_broker(broken.url) as broker, trio.open_nursery() as nursery, program.events() as stream:
        await nursery.start(partial(program.run, signals=False))
        broken.front.deafen("heal")
        await broker.declare(QueueSpec(name="numbers.done"))
        await broker.publish(7, routing_key="numbers")
        with trio.fail_after(PATIENCE):
            async for event in stream:
                if event.to_dict()["event"] == "process_died":
                    break
        assert event.to_dict()["code"] == BUDGET_SPENT
        assert not event.to_dict()["in_hand"]
        broken.front.heal()
        (done,) = await take(broker, "numbers.done")
        assert done.payload_as(dict)["number"] == 7
        program.stop("the test is over")


async def test_a_consumer_that_the_broker_has_forgotten_is_subscribed_again(
    rabbitmq: RabbitMQNode, vhost: str, amqp_url: str
) -> None:
    """RabbitMQ ended it without telling us, as after a partition: the first step is enough, and what was in hand
    meanwhile is acked."""
    seen = Seen()
    async with open_broker(amqp_url) as broker, running(listener(amqp_url, seen), seen):
        await fill(broker, count=1)
        await seen.wait(lambda: seen.handled == [0])
        rabbitmq.eval(
            "[gen_server2:call(amqqueue:get_pid(Q), {basic_cancel, proplists:get_value(channel_pid, Row),"
            ' proplists:get_value(consumer_tag, Row), undefined, <<"guest">>}, infinity)'
            f" || Row <- rabbit_amqqueue:consumers_all({binary(vhost)}),"
            " {ok, Q} <- [rabbit_amqqueue:lookup(proplists:get_value(queue_name, Row))]]"
        )
        assert not rabbitmq.list_consumers(vhost)
        await fill(broker)
        await seen.wait(lambda: len(seen.handled) == 6)
    assert seen.steps == ["degraded", "consumer"]


async def test_the_innocent_are_left_alone(broken: Broken) -> None:
    """Messages wait all the time: for a consumer that is paused, one whose slow handlers hold all it may have, one
    that fails fast; a queue is empty, and another one is drained by others, who come first where there are priorities:
    nobody is called deaf."""
    seen, release = Seen(), trio.Event()
    fleet = Fleet(broken.url, name="innocent", deaf_after=DEAF_AFTER / 2)
    busy, failed = trio.Event(), trio.Event()

    @fleet.consumer("slow", concurrency=2)
    async def slow(number: int) -> None:
        busy.set()
        await release.wait()

    @fleet.consumer("paused")
    async def paused(number: int) -> None: ...

    @fleet.consumer("empty")
    async def empty(number: int) -> None: ...

    @fleet.consumer("shared")
    async def shared(number: int) -> None: ...

    @fleet.consumer("failing", fail_fast=1, concurrency=2, prefetch=100)
    async def failing(number: int) -> None:
        if failed.is_set():
            await release.wait()
        failed.set()
        raise ValueError("not yet")

    async with open_broker(broken.url) as broker, running(fleet, seen):
        await fleet.pause("paused")
        for queue in ("slow", "paused", "failing"):
            await fill(broker, queue, 200)
        await busy.wait()
        await failed.wait()
        with trio.move_on_after(4 * DEAF_AFTER):  # for nothing to happen
            async with (
                open_broker(broken.url) as others,
                others.subscribe("shared", priority=5) as theirs,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(keep_full, broker)
                async for message in theirs:
                    message.ack()
        release.set()
    assert seen.events == []


async def test_a_standby_of_a_single_active_consumer_is_not_deaf(amqp_url: str) -> None:
    """Also of a queue that others have declared, and the fleet only names; when the active one goes it takes over."""
    seen = Seen()
    async with open_broker(amqp_url) as broker:
        await broker.declare(QueueSpec(name="work", single_active_consumer=True, max_length=1000, ttl=60))
        async with contextlib.AsyncExitStack() as active:
            await active.enter_async_context(broker.subscribe("work", prefetch=1))
            await fill(broker)
            async with running(listener(amqp_url, seen), seen):
                await trio.sleep(4 * DEAF_AFTER)  # for nothing to happen
                assert seen.handled == []
                await active.aclose()
                await seen.wait(lambda: len(seen.handled) == 5)
    assert seen.events == []


async def test_ready_is_consuming_in_this_session(broken: Broken, fault_proxy: Callable[[int], FaultProxy]) -> None:
    """Connected again, with a channel and all, but refused: somebody consumes the queue exclusively.  It isn't READY
    before consume-ok; and waiting for its turn it isn't deaf, though messages wait."""
    proxy = fault_proxy(broken.port)
    seen = Seen()
    fleet = listener(broken.url.replace(f":{broken.port}", f":{proxy.port}"), seen)

    def standing_now() -> tuple[ProcessState, str]:
        state, reasons = standing(fleet.snapshot().to_dict())
        return state, "; ".join(reasons)

    async with open_broker(broken.url) as broker, running(fleet, seen):
        assert standing_now()[0] is ProcessState.READY
        proxy.refuse()
        proxy.reset()
        await eventually(lambda: standing_now()[0] is not ProcessState.READY)
        async with open_broker(broken.url) as other, subscribed_alone(other):
            await fill(broker)
            proxy.heal()
            await eventually(lambda: "exclusive" in standing_now()[1])
            await trio.sleep(4 * DEAF_AFTER)  # for nothing to happen
            assert standing_now()[0] is ProcessState.DEGRADED
        await eventually(lambda: standing_now()[0] is ProcessState.READY)
        await seen.wait(lambda: len(set(seen.handled)) == 5)
    assert seen.events == []


async def keep_full(broker: Broker) -> None:
    """Publish for ever."""
    while True:
        await broker.publish_many(range(100), routing_key="shared")


@contextlib.asynccontextmanager
async def subscribed_alone(broker: Broker) -> AsyncIterator[None]:
    """Exclusively, as soon as the one before is gone."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                async with broker.subscribe("work", exclusive=True, prefetch=1):
                    yield
                    return
            except (AccessRefused, ResourceLocked):
                await trio.sleep(0.05)


async def until_it_ends(run: Callable[..., Awaitable[object]], broken: Broken, broker: Broker) -> None:
    """Run it, deaf for ever, and raise the root of what it ends with."""
    failures = list[BaseException]()

    async def catch(task_status: trio.TaskStatus[None]) -> None:
        try:
            await run(task_status=task_status)
        except Escalation as error:
            failures.append(root_cause(error))

    async with trio.open_nursery() as nursery:
        await nursery.start(catch)
        broken.front.deafen("heal")
        await fill(broker)
    raise failures[0]
