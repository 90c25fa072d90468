"""A channel's death touches no sibling: only its own actors restart, and its consumers consume again."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from amqp import exceptions as amqp_errors

from kombu_actors import Connection, Consumer, Exchange, Producer, Queue
from kombu_actors.broker import BindingKind, BindingSpec, Broker, ExchangeSpec, QueueSpec, Subscription, open_broker
from kombu_actors.errors import PublishReturned
from kombu_actors.message import Message
from kombu_actors.supervisors import Event
from kombu_actors.supervisors.events import ChildFailed, ChildReady
from tests.acceptance.observing import EVENTS, happened, read_until, recorded, strangers
from tests.support.brokers import RabbitMQNode
from tests.support.history import History

RECOVERY = 5.0
"""Seconds from a channel's death until its consumers consume again: the promise."""
PACE = 0.005
"""Seconds between two messages to the sibling."""
SHORT_TIMEOUT = "[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 1000}]}]."
"""RabbitMQ closes a channel that leaves a delivery unacknowledged for 3 s (30 minutes by default)."""


@attrs.define
class Scene:
    """One connection with a victim (actor ``channels/1``), a sibling (``channels/2``) and its events."""

    broker: Broker
    other: Broker
    """A connection of somebody else's."""
    victim: Subscription
    events: Any


@asynccontextmanager
async def undisturbed_sibling(url: str, *, victim_prefetch: int = 100) -> AsyncIterator[Scene]:
    """Two subscriptions on one connection; leaving the block, the sibling must have been fed all the time.

    Its messages come from another connection, in a steady trickle.  Every one of them must arrive,
    once: a channel that was interrupted would get some of them again.
    """
    history = History()
    fed, feeding = trio.Event(), trio.CancelScope()

    async def publish(broker: Broker, message: int | str) -> None:
        history.attempt(message)
        await broker.publish(message, routing_key="sibling")
        history.confirm(message)

    async def feed(broker: Broker) -> None:
        with feeding:
            for number in itertools.count():
                await publish(broker, number)
                await trio.sleep(PACE)

    async def consume(messages: Subscription) -> None:
        async for message in messages:
            history.receive(message.payload)
            message.ack(strict=True)  # this channel is not to die
            if message.payload == "last":
                fed.set()

    async with open_broker(url) as broker, open_broker(url) as other, trio.open_nursery() as nursery:
        await broker.declare(
            ExchangeSpec(name="events", type="topic"),
            QueueSpec(name="victim"),
            BindingSpec(kind=BindingKind.QUEUE, source="events", destination="victim", routing_key="victim.#"),
            BindingSpec(kind=BindingKind.QUEUE, source="events", destination="victim", routing_key="also"),
            QueueSpec(name="sibling"),
        )
        async with (
            broker.subscribe("victim", prefetch=victim_prefetch) as victim,
            broker.subscribe("sibling") as messages,
            broker.events(EVENTS) as stream,
        ):
            nursery.start_soon(consume, messages)
            nursery.start_soon(feed, other)
            yield Scene(broker, other, victim, stream)
            feeding.cancel()
            await publish(other, "last")
            with trio.fail_after(RECOVERY):
                await fed.wait()
            nursery.cancel_scope.cancel()
    report = history.report()
    report.check(duplicates=0, in_order=True)
    assert report.received > 1


async def _recovery(scene: Scene, kind: type[Event], path: str) -> list[Event]:
    with trio.fail_after(RECOVERY):
        return await read_until(scene.events, happened(kind, path))


async def test_a_queue_deleted_under_its_consumer_is_declared_again_with_its_bindings_and_consumed(
    amqp_url: str,
) -> None:
    """Someone deletes the queue: only the consumer restarts; queue and bindings are back within 5 s."""
    async with undisturbed_sibling(amqp_url) as scene:
        await scene.other.delete_queue("victim")
        (consumer,) = _find(scene.broker, "channels/1/consumers").children
        events = await _recovery(scene, ChildReady, consumer.path)
        assert strangers(events, consumer.path) == []
        for key in ("victim.a.b", "also"):
            await scene.other.publish(key, exchange="events", routing_key=key, mandatory=True)
            with trio.fail_after(RECOVERY):
                message = await anext(scene.victim)
            assert message.payload == key
            message.ack()
        assert _epochs(scene.broker) == {"session": 1, "topology": 1, "channels/1/channel": 1, "channels/2/channel": 1}


async def test_a_consumer_timeout_restarts_only_the_channel_that_did_not_ack(
    own_rabbitmq: Callable[..., RabbitMQNode],
) -> None:
    """A handler holds a message too long: 406 closes its channel and no other, the message comes again
    within 5 s, and acking the first delivery comes too late instead of killing the next channel."""
    node = own_rabbitmq(advanced=SHORT_TIMEOUT)
    async with undisturbed_sibling(node.url(), victim_prefetch=1) as scene:
        await scene.other.publish("slow", routing_key="victim")
        held = await anext(scene.victim)
        with trio.fail_after(15):  # 3 s, and RabbitMQ looks once a second
            before = await read_until(scene.events, happened(ChildFailed, "channels/1/channel"))
        died = before[-1]
        assert isinstance(died, ChildFailed)
        assert isinstance(died.error, amqp_errors.PreconditionFailed)
        with trio.fail_after(RECOVERY):
            again = await anext(scene.victim)
        assert (again.payload, again.redelivered) == ("slow", True)
        again.ack()
        assert not held.ack()
        events = before + await _recovery(scene, ChildReady, "channels/1/consumers")
        assert strangers(events, "channels/1") == []
        assert _epochs(scene.broker)["channels/1/channel"] == 2
        assert _epochs(scene.broker)["channels/2/channel"] == 1
    assert node.list_queues()["victim"]["messages"] == 0


async def test_a_consumer_timeout_brings_back_the_queue_that_went_with_the_channel(
    own_rabbitmq: Callable[..., RabbitMQNode],
) -> None:
    """An auto-delete queue goes with its only consumer, whose channel the broker closes: it is bound and consumed from
    again within a second of that."""
    url = own_rabbitmq(advanced=SHORT_TIMEOUT).url()
    binding = BindingSpec(kind=BindingKind.QUEUE, source="news", destination="fleeting")
    async with open_broker(url) as broker, open_broker(url) as other:
        await broker.declare(ExchangeSpec(name="news", type="fanout", durable=False, auto_delete=True))
        await broker.declare(QueueSpec(name="fleeting", durable=False, auto_delete=True), binding)
        async with broker.subscribe("fleeting") as messages, broker.events(EVENTS) as events:
            await other.publish("held", exchange="news")
            await anext(messages)
            with trio.fail_after(15):
                await read_until(events, happened(ChildFailed, "channels/1/channel"))
            with trio.fail_after(1):
                back = False
                while not back:
                    with contextlib.suppress(amqp_errors.NotFound, PublishReturned):  # it is about to be declared
                        await other.publish("again", exchange="news", mandatory=True)
                        back = True
                assert (await anext(messages)).payload == "again"


async def test_a_publish_to_a_missing_exchange_fails_alone_and_others_on_its_channel_are_sent_again(
    amqp_url: str,
) -> None:
    """404 closes the publishing channel: NotFound is raised from the very publish that caused it; the
    200 others under way on that channel are confirmed, and nobody else restarts."""
    history = History()

    async with undisturbed_sibling(amqp_url) as scene, trio.open_nursery() as nursery:

        async def publish(number: int) -> None:
            history.attempt(number)
            await scene.broker.publish(number, exchange="events", routing_key="victim.n", mandatory=True)
            history.confirm(number)

        async def publish_to_nobody() -> None:
            with pytest.raises(amqp_errors.NotFound, match="no exchange 'nobody'"):
                await scene.broker.publish("lost", exchange="nobody", routing_key="victim.n")

        await publish(0)  # opens the publishing channel, number 3
        await read_until(scene.events, happened(ChildReady, "channels/3"))
        for number in range(1, 101):
            nursery.start_soon(publish, number)
        nursery.start_soon(publish_to_nobody)
        for number in range(101, 201):
            nursery.start_soon(publish, number)
        events = await _recovery(scene, ChildReady, "channels/3/channel")
        assert any(happened(ChildFailed, "channels/3/channel")(event) for event in events)
        assert strangers(events, "channels/3") == []
        with trio.fail_after(RECOVERY):
            received: set[int] = set()
            while len(received) < 201:
                message = await anext(scene.victim)
                received.add(message.payload_as(int))
                history.receive(message.payload)
                message.ack()
        assert _epochs(scene.broker) == {
            "session": 1,
            "topology": 1,
            "channels/1/channel": 1,
            "channels/2/channel": 1,
            "channels/3/channel": 2,
        }
    report = history.report()
    report.check()
    assert report.confirmed == 201


def test_a_blocking_publish_to_a_missing_exchange_raises_from_that_very_publish(amqp_url: str) -> None:
    """With `confirm_publish=True`, eight threads on one producer: NotFound for the one that named a missing
    exchange, every time; all others are confirmed and arrive."""
    queue = Queue("kept", Exchange("real"), routing_key="k")
    history = History()

    with Connection(amqp_url, transport_options={"confirm_publish": True}) as connection:
        producer = Producer(connection)
        producer.publish("first", exchange="real", routing_key="k", declare=[queue])

        def publish(number: int) -> None:
            if number % 50 == 25:
                with pytest.raises(amqp_errors.NotFound, match="no exchange 'nobody'"):
                    producer.publish(number, exchange="nobody", routing_key="k", retry=False)
                return
            history.attempt(number)
            producer.publish(number, exchange="real", routing_key="k", retry=True)
            history.confirm(number)

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(publish, number) for number in range(200)]:
                future.result(30)

        def collect(body: Any, message: Message) -> None:
            if body != "first":
                history.receive(body)
            message.ack()

        with Consumer(connection, [queue], callbacks=[collect]):
            while history.missing():
                connection.drain_events(timeout=RECOVERY)
        assert connection.connect().sessions == 1
    report = history.report()
    report.check()
    assert report.confirmed == 196


@pytest.mark.slow
def test_ten_mistakes_in_a_row_do_not_take_the_channel_from_its_other_users(amqp_url: str) -> None:
    """Each publish to a missing exchange costs the channel a restart; however many there are, it comes back
    within 5 s: the publish after them is confirmed, and the consumer on the same channel receives it."""
    with Connection(amqp_url, transport_options={"confirm_publish": True}) as connection:
        producer = Producer(connection)
        received: list[Any] = []

        def collect(body: Any, message: Message) -> None:
            received.append(body)
            message.ack()

        with Consumer(connection, [Queue("shared")], callbacks=[collect]):
            for number in range(10):
                with pytest.raises(amqp_errors.NotFound, match="no exchange 'nobody'"):
                    producer.publish(number, exchange="nobody", retry=True, timeout=RECOVERY)
            producer.publish("right", routing_key="shared", retry=True, timeout=RECOVERY)
            connection.drain_events(timeout=RECOVERY)
        assert received == ["right"]


def test_a_double_ack_restarts_only_the_channel_that_sent_it(amqp_url: str) -> None:
    """The same tag acknowledged twice on the wire: 406 closes that channel and no other; its consumer
    consumes again within 5 s, and the sibling, with a message in hand, can still ack it."""
    with Connection(amqp_url) as connection:
        victim, sibling = connection.channel(), connection.channel()
        received: dict[str, list[Message]] = {"victim": [], "sibling": []}
        producer = Producer(connection)
        for name, channel in (("victim", victim), ("sibling", sibling)):
            consumer = Consumer(channel, [Queue(name)], on_message=received[name].append)
            consumer.consume()
            producer.publish("first", routing_key=name)
        while not all(received.values()):
            connection.drain_events(timeout=RECOVERY)

        with recorded(connection) as recording:
            tag = received["victim"][0].delivery_tag
            victim.basic_ack(tag)
            victim.basic_ack(tag)
            path = f"channels/{victim.channel_id}"
            died = recording.until(happened(ChildFailed, f"{path}/channel"), RECOVERY)
            assert isinstance(died[-1], ChildFailed)
            assert isinstance(died[-1].error, amqp_errors.PreconditionFailed)
            back = recording.until(happened(ChildReady, f"{path}/consumers"), RECOVERY)
            assert strangers(died + back, path) == []

        for name in received:
            producer.publish("second", routing_key=name)
        while len(received["victim"]) < 2 or len(received["sibling"]) < 2:
            connection.drain_events(timeout=RECOVERY)
        received["victim"][1].ack()
        for message in received["sibling"]:
            message.ack()
        for channel in (victim, sibling):
            channel.basic_qos(0, 10, False)  # answered after the acks: the broker has accepted them
        for name, messages in received.items():
            assert [message.payload for message in messages] == ["first", "second"], name


def _find(broker: Broker, path: str) -> Any:
    view = broker.snapshot().find(path)
    assert view is not None, path
    return view


def _epochs(broker: Broker) -> dict[str, int]:
    """Incarnations so far of session, topology and each channel."""
    root = broker.snapshot()
    paths = ["session", "topology", *(f"channels/{child.id}/channel" for child in _find(broker, "channels").children)]
    return {path: _find(broker, path).epoch for path in paths if root.find(path) is not None}
