"""After a fault everything is as it was wished: topology, QoS, consumers; and no ack goes astray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from kombu_actors.broker import Broker, ExchangeSpec, QueueSpec
from kombu_actors.errors import StaleDelivery
from kombu_actors.supervisors import Event
from kombu_actors.supervisors.events import ChildReady

from .native import PATIENCE, fill, payloads, queue, ready, restarted, take, to_exchange, to_queue
from .realms import Realm

HARM = pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])


@asynccontextmanager
async def until_ready(broker: Broker, path: str) -> AsyncIterator[list[Event]]:
    """Do harm in the block; leaving it, wait until the actor at (the end of) ``path`` has come up once more."""
    heard: list[Event] = []
    async with broker.events(1000) as stream:
        yield heard
        with trio.fail_after(PATIENCE):
            async for event in stream:
                heard.append(event)
                if isinstance(event, ChildReady) and event.path.endswith(path):
                    return


async def lose_session(realm: Realm, broker: Broker, harm: str) -> list[Event]:
    """End every connection; return when this one's topology holds again."""
    async with until_ready(broker, "topology") as heard:
        await trio.to_thread.run_sync(getattr(realm, harm))
    return heard


async def volatile_topology(broker: Broker) -> None:
    """Two exchanges, a queue and their bindings, none of which outlives its connection."""
    await broker.declare(
        ExchangeSpec(name="in", type="topic", durable=False, auto_delete=True),
        ExchangeSpec(name="out", type="fanout", durable=False, auto_delete=True),
        QueueSpec(name="q", durable=False, exclusive=True, arguments={"x-max-length": 9}),
        to_exchange("out", "in", "order.*"),
        to_queue("q", "out"),
    )


@HARM
async def test_everything_declared_is_there_again(realm: Realm, broker: Broker, harm: str) -> None:
    """Exchanges, queues with their arguments, bindings; then the subscription, with its prefetch."""
    await volatile_topology(broker)
    async with broker.subscribe("q", prefetch=2) as messages:
        for round in range(3):
            for number in range(5):
                await broker.publish((round, number), exchange="in", routing_key="order.new", mandatory=True)
            taken = await take(messages, 2)
            assert [message.payload for message in taken] == [[round, 0], [round, 1]]
            assert await ready(broker, "q") == 3
            await lose_session(realm, broker, harm)
        assert realm.depths() == {"q": 0}
        await broker.declare(QueueSpec(name="q", durable=False, exclusive=True, arguments={"x-max-length": 9}))


@HARM
async def test_what_was_deleted_stays_deleted(realm: Realm, broker: Broker, harm: str) -> None:
    """Queue, exchange and binding: only what is wished for is restored."""
    await volatile_topology(broker)
    await queue(broker, "kept")
    await queue(broker, "gone")
    await broker.declare(to_queue("kept", "out"))
    await broker.unbind(to_queue("q", "out"))
    await broker.delete_queue("gone")
    await lose_session(realm, broker, harm)
    await broker.publish("m", exchange="in", routing_key="order.new", mandatory=True)
    assert realm.depths() == {"q": 0, "kept": 1}


@HARM
async def test_recovery_goes_in_order(realm: Realm, broker: Broker, harm: str) -> None:
    """Session, then topology, then channels with their consumers: nobody consumes what isn't there."""
    await volatile_topology(broker)
    async with broker.subscribe("q") as messages:
        async with until_ready(broker, "channels") as heard:
            await trio.to_thread.run_sync(getattr(realm, harm))
        order = [event.path for event in heard if isinstance(event, ChildReady)]
        assert [path for path in order if path in ("session", "topology", "channels")] == [
            "session", "topology", "channels",
        ]  # fmt: skip
        consumer = next(path for path in order if "/consumers/" in path)
        assert order.index("topology") < order.index("channels/1/channel") < order.index(consumer)
        await broker.publish("m", exchange="in", routing_key="order.new", mandatory=True)
        assert await payloads(messages, 1) == ["m"]


@HARM
async def test_a_queue_the_broker_named_is_followed(realm: Realm, broker: Broker, harm: str) -> None:
    """It has a new name in each session; its bindings, its consumer and publishes to its old name go there."""
    info = await broker.declare(QueueSpec(name="", durable=False, exclusive=True))
    assert info is not None
    assert info.name.startswith("amq.gen-")
    await broker.declare(ExchangeSpec(name="x", type="fanout"), to_queue(info.name, "x"))
    names = {info.name}
    async with broker.subscribe(info.name) as messages:
        for round in range(3):
            await broker.publish(round, exchange="x", mandatory=True)
            await broker.publish("direct", routing_key=info.name, mandatory=True)
            assert await payloads(messages, 2) == [round, "direct"]
            assert (await broker.inspect_queue(info.name)).consumers == 1
            await lose_session(realm, broker, harm)
            names.add(*realm.depths())
    assert len(names) == 4


@HARM
async def test_unsettled_messages_come_again_and_stale_decisions_go_nowhere(
    realm: Realm, broker: Broker, harm: str
) -> None:
    """Of a former session: they say so, and nothing is sent.  The numbers of its deliveries are in use again,
    for other messages, which a stale ack would have acknowledged."""
    await queue(broker, "q")
    await fill(broker, "q", 0, 1, 2)
    async with broker.subscribe("q", prefetch=4) as messages:
        old = await take(messages, 3)
        await lose_session(realm, broker, harm)
        again = await take(messages, 3)
        assert [(message.payload, message.redelivered) for message in again] == [(0, True), (1, True), (2, True)]
        assert [m._delivery.delivery_tag for m in again] == [m._delivery.delivery_tag for m in old]
        assert all(message.stale for message in old)
        assert [old[0].ack(), old[1].reject(), old[2].requeue()] == [False] * 3
        await fill(broker, "q", "fits", "waits")  # into a prefetch of 4, of which 3 are unsettled still
        assert [message.payload for message in await take(messages, 1)] == ["fits"]
        assert await ready(broker, "q") == 1
    assert await ready(broker, "q") == 5


@HARM
async def test_publishes_under_way_arrive_after_a_loss(realm: Realm, broker: Broker, harm: str) -> None:
    """Each ``publish`` returns confirmed; none is missing; order is kept apart from repetitions."""
    await queue(broker, "q")
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            for number in range(100):
                await broker.publish(number, routing_key="q")

        nursery.start_soon(publish)
        for _ in range(2):
            await trio.to_thread.run_sync(getattr(realm, harm))
            await broker.publish("mark", routing_key="q")
    count = await ready(broker, "q")
    async with broker.subscribe("q", no_ack=True) as messages:
        numbers = [m.payload_as(int) for m in await take(messages, count) if m.payload != "mark"]
    assert sorted(set(numbers)) == list(range(100))
    assert len(numbers) <= 102
    firsts = list(dict.fromkeys(numbers))
    assert firsts == sorted(firsts)


async def test_a_deleted_queue_comes_back_with_its_consumer(realm: Realm, broker: Broker) -> None:
    """Deleted by somebody else: the broker cancels the consumer, and supervision declares, binds and
    consumes again; the siblings notice nothing."""
    await broker.declare(ExchangeSpec(name="x"))
    await queue(broker, "q", {"x-max-priority": 3})
    await queue(broker, "sibling")
    await broker.declare(to_queue("q", "x", "k"))
    async with broker.subscribe("sibling") as sibling, broker.subscribe("q", tag="t") as messages:
        await fill(broker, "sibling", "before")
        (untouched,) = await take(sibling, 1)
        async with until_ready(broker, "/consumers/t"), realm.open_broker() as other:
            await other.delete_queue("q")
        await broker.publish("m", exchange="x", routing_key="k", mandatory=True)
        assert await payloads(messages, 1) == ["m"]
        await queue(broker, "q", {"x-max-priority": 3})
        untouched.ack()
    assert restarted(broker) == []
    assert await ready(broker, "sibling") == 0


async def test_a_dead_channel_gives_its_messages_back(broker: Broker) -> None:
    """The broker closes a channel for an ack it doesn't know: what was unsettled there comes again,
    stale decisions go nowhere, the other channel's messages stay where they are."""
    await queue(broker, "q")
    await queue(broker, "sibling")
    await fill(broker, "q", 1, 2)
    await fill(broker, "sibling", 1)
    async with broker.subscribe("sibling") as sibling, broker.subscribe("q", tag="t") as messages:
        (untouched,) = await take(sibling, 1)
        old = await take(messages, 2)
        async with until_ready(broker, "/consumers/t"):
            old[0]._wire.ack(4711)
        again = await take(messages, 2)
        assert [(message.payload, message.redelivered) for message in again] == [(1, True), (2, True)]
        with pytest.raises(StaleDelivery, match="delivers the message again"):
            old[1].ack(strict=True)
        for message in again:
            message.ack()
        untouched.ack()
    assert [await ready(broker, name) for name in ("q", "sibling")] == [0, 0]
