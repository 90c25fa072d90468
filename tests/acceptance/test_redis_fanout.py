"""Broadcasts over Redis: nobody misses one without being told, and with ``durable_fanout`` nobody misses one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from amqp.exceptions import NotFound

from kombu_actors.broker import (
    BindingKind,
    BindingSpec,
    Broker,
    ExchangeSpec,
    QueueSpec,
    SubscriptionGap,
    open_broker,
)
from kombu_actors.errors import PublishReturned
from kombu_actors.supervisors import Backoff
from tests.support.brokers import RedisNode

PATIENCE = 10.0
SUBSCRIBERS = 5
KILLS = 20
PACE = 0.01
"""Seconds between two broadcasts: 100 a second."""
BRISK = Backoff(first=0.0, base=0.05, maximum=0.2, reset_after=10.0)
"""Connections are killed every second or so: the default would wait 3 s each time."""
RECOVERY = 5.0
"""Seconds from a kill until a subscriber hears broadcasts again: the promise."""


@attrs.define(eq=False)
class Subscriber:
    """What one subscriber has heard, and which gaps it was told of."""

    received: list[int] = attrs.field(factory=list)
    gaps: list[SubscriptionGap] = attrs.field(factory=list)
    progress: trio.Condition = attrs.field(factory=trio.Condition)

    async def heard(self, number: int) -> None:
        async with self.progress:
            self.received.append(number)
            self.progress.notify_all()

    async def told(self, gap: SubscriptionGap) -> None:
        async with self.progress:
            self.gaps.append(gap)
            self.progress.notify_all()

    async def wait_for(self, number: int, *, gaps: int = 0) -> None:
        """Wait until a broadcast at least that late has come, and so many gaps were told of."""
        async with self.progress:
            while not self.received or self.received[-1] < number or len(self.gaps) < gaps:
                await self.progress.wait()


@attrs.define(eq=False)
class Trickle:
    """Broadcasts numbers, steadily, over a connection of its own that declares nothing."""

    published: list[float] = attrs.field(factory=list)
    """When each was published, in seconds since the epoch."""

    async def run(self, url: str) -> None:
        async with open_broker(url, backoff=BRISK) as broker:
            while True:
                number = len(self.published)
                self.published.append(time.time())
                await broker.publish(number, exchange="news", routing_key="")
                await trio.sleep(PACE)


async def subscribe(
    url: str, name: str, durable: bool, subscriber: Subscriber, task_status: trio.TaskStatus[None]
) -> None:
    async with (
        open_broker(url, backoff=BRISK, transport_options={"durable_fanout": durable}) as broker,
        broker.events(10_000) as events,
    ):
        await broker.declare(
            ExchangeSpec(name="news", type="fanout"),
            QueueSpec(name=name),
            BindingSpec(kind=BindingKind.QUEUE, source="news", destination=name),
        )
        async with broker.subscribe(name) as messages, trio.open_nursery() as nursery:

            async def note_gaps() -> None:
                async for event in events:
                    if isinstance(event, SubscriptionGap):
                        await subscriber.told(event)

            nursery.start_soon(note_gaps)
            task_status.started()
            async for message in messages:
                await subscriber.heard(message.payload_as(int))
                message.ack()


@asynccontextmanager
async def audience(url: str, *, durable: bool) -> AsyncIterator[tuple[list[Subscriber], Trickle]]:
    """Subscribers on connections of their own, and a trickle of broadcasts to them."""
    subscribers = [Subscriber() for _ in range(SUBSCRIBERS)]
    trickle = Trickle()
    async with trio.open_nursery() as nursery:
        for index, subscriber in enumerate(subscribers):
            await nursery.start(partial(subscribe, url, f"s{index}", durable, subscriber))
        nursery.start_soon(trickle.run, url)
        yield subscribers, trickle
        nursery.cancel_scope.cancel()


async def kill_listeners(node: RedisNode) -> None:
    await trio.to_thread.run_sync(node.ask, "CLIENT", "KILL", "TYPE", "pubsub")


async def all_hear(subscribers: list[Subscriber], number: int, *, gaps: int = 0) -> None:
    async with trio.open_nursery() as nursery:
        for subscriber in subscribers:
            nursery.start_soon(partial(subscriber.wait_for, number, gaps=gaps))


@pytest.mark.slow
async def test_every_gap_in_a_broadcast_subscription_is_reported(
    redis_server: RedisNode, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over 20 kills of the Pub/Sub connections all subscribers of an undeclared publisher hear broadcasts again
    within 5 s and are told of the gap, and each broadcast that one missed lies within a gap it was told of."""
    slowest = 0.0
    async with audience(redis_url, durable=False) as (subscribers, trickle):
        with trio.fail_after(PATIENCE):
            await all_hear(subscribers, 10)
        for kills in range(1, KILLS + 1):
            killed = trio.current_time()
            await kill_listeners(redis_server)
            with trio.fail_after(RECOVERY):
                await all_hear(subscribers, len(trickle.published) + 1, gaps=kills)
            slowest = max(slowest, trio.current_time() - killed)
    missed = 0
    for subscriber in subscribers:
        for number in set(range(subscriber.received[0], subscriber.received[-1])) - set(subscriber.received):
            missed += 1
            when = trickle.published[number]
            assert any(gap.since <= when <= gap.until for gap in subscriber.gaps), f"{number} was missed without a word"
    with capsys.disabled():
        print(
            f"\nPub/Sub fanout: {missed} of {SUBSCRIBERS} x {len(trickle.published)} missed, all within reported gaps;"
            f" back within {slowest:.2f} s"
        )


@pytest.mark.slow
async def test_durable_broadcasts_reach_everybody(
    redis_server: RedisNode, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``durable_fanout`` the same kills lose nothing: what nobody hears waits in the queues."""
    async with audience(redis_url, durable=True) as (subscribers, trickle):
        with trio.fail_after(PATIENCE):
            await all_hear(subscribers, 10)
        for _ in range(KILLS):
            await kill_listeners(redis_server)
            with trio.fail_after(RECOVERY):
                await all_hear(subscribers, len(trickle.published) + 1)
    repeated = 0
    for subscriber in subscribers:
        assert set(subscriber.received) >= set(range(max(subscriber.received)))
        assert subscriber.gaps == []
        repeated += len(subscriber.received) - len(set(subscriber.received))
    with capsys.disabled():
        print(f"\ndurable fanout: lost 0 of {SUBSCRIBERS} x {len(trickle.published)}, delivered again {repeated}")


async def bound(broker: Broker) -> None:
    await broker.declare(
        ExchangeSpec(name="x"),
        QueueSpec(name="q"),
        BindingSpec(kind=BindingKind.QUEUE, source="x", destination="q", routing_key="k"),
    )


async def test_a_vanished_binding_table_is_rebuilt(redis_server: RedisNode, redis_url: str) -> None:
    """Evicted, or deleted by somebody: the next publish finds its way all the same."""
    async with open_broker(redis_url) as broker:
        await bound(broker)
        redis_server.ask("DEL", "_kombu.binding.x")
        await broker.publish("m", exchange="x", routing_key="k", mandatory=True)
        assert (await broker.inspect_queue("q")).messages == 1
        assert redis_server.ask("EXISTS", "_kombu.binding.x") == 1


async def test_a_flushed_server_gets_everything_back(redis_server: RedisNode, redis_url: str) -> None:
    """FLUSHALL takes exchanges, queues, bindings, subscriptions and our lease: a publish of somebody who declared
    nothing raises or arrives, never silence, and the consumer is back."""
    async with open_broker(redis_url) as broker, open_broker(redis_url) as publisher:
        await bound(broker)
        async with broker.subscribe("q") as messages:
            await publisher.publish("before", exchange="x", routing_key="k", mandatory=True)
            with trio.fail_after(PATIENCE):
                (await anext(messages)).ack()
                await trio.to_thread.run_sync(redis_server.ask, "FLUSHALL")
                while True:
                    try:
                        await publisher.publish("after", exchange="x", routing_key="k", mandatory=True)
                        break
                    except (PublishReturned, NotFound):
                        await trio.sleep(0.05)  # what was declared comes back with its owner's next session
                message = await anext(messages)
                assert message.payload == "after"
                message.ack()
