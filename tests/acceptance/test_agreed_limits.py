"""Limits on which the two ends agree: ``frame_max`` and ``channel_max``, at first and after a reconnect."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.actors.connection import ConnectionActor
from kombu_actors.broker import (
    BindingKind,
    BindingSpec,
    Broker,
    Delivered,
    ExchangeSpec,
    QueueSpec,
    RestorationSucceeded,
    RestorationWaiting,
    Subscription,
    open_broker,
)
from kombu_actors.errors import ChannelLimitExceeded, PublishRefused
from kombu_actors.message import Message
from tests.support.brokers import RabbitMQNode

SMALL = 8192
BIG = {"h": "x" * 20_000}
"""Headers that fit a frame of RabbitMQ's default size, and none of ``SMALL``."""
AT_ONCE = 2.0
"""Seconds for what asks nobody, on a busy machine; the deadline of calls is 30."""


@contextmanager
def granting(node: RabbitMQNode, limit: str, value: int) -> Iterator[None]:
    """The broker grants no more than this to connections that are made from now on."""
    before = node.eval(f"element(2, application:get_env(rabbit, {limit}))")
    node.eval(f"application:set_env(rabbit, {limit}, {value})")
    try:
        yield
    finally:
        node.eval(f"application:set_env(rabbit, {limit}, {before})")


@pytest.fixture
def node(own_rabbitmq: Callable[..., RabbitMQNode]) -> Iterator[RabbitMQNode]:
    """A RabbitMQ whose limits may be changed."""
    node = own_rabbitmq()
    yield node
    node.wait_until_no_connections()


@pytest.fixture(params=["ours", "the broker's"])
def small_frames(request: pytest.FixtureRequest, node: RabbitMQNode) -> Iterator[dict[str, Any]]:
    """Transport options with which frames of ``SMALL`` bytes are agreed on, by either side's wish."""
    if request.param == "ours":
        yield {"frame_max": SMALL}
        return
    with granting(node, "frame_max", SMALL):
        yield {}


def tree_of(connection: Connection) -> ConnectionActor:
    """Its connection actor."""
    handle = connection.connection
    assert handle is not None
    return handle.actor


def received(url: str, queue: str) -> list[Any]:
    """All that is in a queue."""
    payloads = []
    with Connection(url) as connection:
        bound = Queue(queue)(connection.default_channel)
        while (message := bound.get(no_ack=True)) is not None:
            payloads.append(message.payload)
        bound.delete()
    return payloads


# -- publishes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["lone", "loop", "confirm", "large"])
def test_a_publish_beyond_the_agreed_frame_raises_to_its_caller_and_concerns_nobody_else(
    node: RabbitMQNode, small_frames: dict[str, Any], way: str
) -> None:
    """A ``ValueError`` that says what to do, before anything is accepted; all others arrive once and in order, every
    one confirmed, on the first channel of the first session; other connections notice nothing."""
    options = {**small_frames, "confirm_publish": way == "confirm"}
    body = "y" * 100_000 if way == "large" else "y"
    with Connection(node.url(), transport_options=options) as connection, Connection(node.url()) as other:
        channel = connection.default_channel
        Queue("limits")(channel).declare()
        producer = connection.Producer()

        epoch = channel.handle.actor.live

        def publish(numbers: range) -> None:
            for number in numbers:
                producer.publish([number, body], routing_key="limits")
                if way == "lone":
                    time.sleep(0.001)  # else it isn't alone

        publish(range(3))
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(ValueError, match=f"don't fit a frame of {SMALL} bytes|must fit one frame of {SMALL}"):
                producer.publish(["big", body], routing_key="limits", headers=BIG)
            assert time.monotonic() - began < AT_ONCE
            publish(range(3, 6))
        assert Queue("limits")(other.default_channel).queue_declare(passive=True).queue == "limits"
        assert tree_of(connection).session.epochs == 1
        assert channel.handle.actor.live is epoch
    # Leaving the block is content: every confirm has found its publish.
    assert [number for number, _ in received(node.url(), "limits")] == [0, 1, 2, 3, 4, 5, 3, 4, 5]


async def test_a_native_publish_beyond_the_agreed_frame_raises_to_its_caller(
    node: RabbitMQNode, small_frames: dict[str, Any]
) -> None:
    """Whether it is the first publish or a later one; its neighbours are confirmed."""
    async with open_broker(node.url(), transport_options=small_frames) as broker:
        await broker.declare(QueueSpec(name="limits"))
        for number in range(2):
            with trio.fail_after(AT_ONCE), pytest.raises(ValueError, match=str(SMALL)):
                await broker.publish("big", routing_key="limits", headers=BIG)
            await broker.publish(number, routing_key="limits", timeout=10)
        assert (await broker.inspect_queue("limits")).messages == 2
        await broker.delete_queue("limits")


async def test_arguments_beyond_the_agreed_frame_are_an_error_of_their_call_alone(
    node: RabbitMQNode, small_frames: dict[str, Any]
) -> None:
    """Of exchanges, queues, bindings and consumers: ``ValueError`` at once; the same calls work on afterwards."""
    async with open_broker(node.url(), transport_options=small_frames) as broker:
        await broker.declare(QueueSpec(name="limits"), ExchangeSpec(name="limits"))
        bind = BindingSpec(kind=BindingKind.QUEUE, source="limits", destination="limits", arguments=BIG)
        for entity in (ExchangeSpec(name="x", arguments=BIG), QueueSpec(name="x", arguments=BIG), bind):
            with trio.fail_after(AT_ONCE), pytest.raises(ValueError, match=str(SMALL)):
                await broker.declare(entity)
        with trio.fail_after(AT_ONCE), pytest.raises(ValueError, match=str(SMALL)):
            async with broker.subscribe("limits", arguments=BIG):
                raise AssertionError("subscribed")
        async with broker.subscribe("limits") as messages:
            await broker.publish("fine", routing_key="limits")
            with trio.fail_after(10):
                assert (await anext(messages)).payload == "fine"
        assert broker._actor.session.epochs == 1
        await broker.delete_queue("limits")
        await broker.delete_exchange("limits")


@pytest.mark.parametrize("confirm", [False, True])
def test_what_was_accepted_and_fits_no_frame_of_the_next_session_is_refused_and_the_rest_arrives(
    node: RabbitMQNode, confirm: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Held up by an alarm, then the session ends and the next broker grants smaller frames: REFUSED, said to whom it
    concerns, not tried again; those before and after it arrive, in order."""
    told: list[BaseException] = []
    with Connection(node.url(), transport_options={"confirm_publish": confirm}) as connection:
        channel = connection.default_channel
        Queue("limits")(channel).declare()
        producer = connection.Producer()
        producer.publish("first", routing_key="limits")
        publisher = channel.handle.actor.publisher
        wait_for(lambda: node.list_queues()["limits"]["messages_ready"] and not publisher.under_way)

        def publish_big() -> None:
            try:
                producer.publish("big", routing_key="limits", headers=BIG, timeout=30, confirm_timeout=30)
            except PublishRefused as error:
                told.append(error)

        node.set_memory_alarm()
        try:
            with granting(node, "frame_max", SMALL):
                thread = threading.Thread(target=publish_big)
                thread.start()
                wait_for(lambda: publisher.under_way == 1)
                node.close_all_connections()
                wait_for(lambda: tree_of(connection).session.epochs == 2)
                wait_for(lambda: not publisher.under_way)
        finally:
            node.clear_memory_alarm()
        thread.join(20)
        if not confirm:  # then nobody waited for it: the channel's next call says it
            with pytest.raises(PublishRefused) as refusal:
                producer.publish("last", routing_key="limits")
            told.append(refusal.value)
            records = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
            assert any("accepted for a former session, and can't be sent over this one" in text for text in records)
        producer.publish("last", routing_key="limits")
    assert f"don't fit a frame of {SMALL} bytes" in str(told[0])
    assert received(node.url(), "limits") == ["first", "last"]


async def test_what_fits_no_frame_of_the_next_session_waits_visibly_and_everything_else_is_restored(
    node: RabbitMQNode,
) -> None:
    """A queue with large arguments, and a consumer with such: the session goes on without them; in a roomy one they
    are back."""
    async with open_broker(node.url()) as broker:
        await broker.declare(QueueSpec(name="small"), QueueSpec(name="large", arguments=BIG))
        async with broker.subscribe("small") as messages, broker.subscribe("small", arguments=BIG) as large:
            with granting(node, "frame_max", SMALL):
                await after(RestorationWaiting, broker, node.close_all_connections)
                with trio.fail_after(10):
                    await broker.publish("fine", routing_key="small")
                    assert (await anext(messages)).payload == "fine"
                assert [(each.what, str(SMALL) in each.reason) for each in broker.waiting()] == [
                    ("queue 'large'", True)
                ]
            await after(RestorationSucceeded, broker, node.close_all_connections)
            with trio.fail_after(10):
                for subscription in (messages, large):
                    assert (await heard(broker, subscription)).payload == "fine"
        await broker.delete_queue("small")
        await broker.delete_queue("large")


async def heard(broker: Broker, subscription: Subscription) -> Delivered:
    """Publish until a subscription has one: the broker takes turns among those that consume already."""
    while True:
        await broker.publish("fine", routing_key="small")
        with trio.move_on_after(0.1):
            return await anext(subscription)


async def after(kind: type, broker: Broker, act: Callable[[], object]) -> None:
    """Do something and wait for what it leads to."""
    async with broker.events() as events:
        act()
        with trio.fail_after(10):
            async for event in events:
                if isinstance(event, kind):
                    return


def wait_for(condition: Callable[[], object], timeout: float = 15.0) -> None:
    """Wait until something holds that nobody tells."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


# -- channels --------------------------------------------------------------------------------------


@pytest.fixture(params=["amqp, ours", "amqp, the broker's", "memory"])
def four_channels(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """A URL and transport options with which four channels are agreed on; one of them is kept for declarations."""
    if request.param == "memory":
        yield "memory://four-channels", {"channel_max": 4}
        return
    node: RabbitMQNode = request.getfixturevalue("node")
    if request.param.endswith("ours"):
        yield node.url(), {"channel_max": 4}
        return
    with granting(node, "channel_max", 4):
        yield node.url(), {}


def test_the_channel_too_many_is_refused_at_once_and_not_wished_for(
    four_channels: tuple[str, dict[str, Any]],
) -> None:
    """``ChannelLimitExceeded`` from ``channel()`` and ``default_channel``; those that are open serve on, declarations
    too, and one that is closed makes room."""
    url, options = four_channels
    with Connection(url, transport_options=options) as connection:
        channels = [connection.channel() for _ in range(3)]
        for ask in (connection.channel, lambda: connection.default_channel):
            began = time.monotonic()
            with pytest.raises(ChannelLimitExceeded, match="all 4 channels"):
                ask()
            assert time.monotonic() - began < AT_ONCE
        assert len(tree_of(connection).channels) == 3
        queue = Queue("limits", Exchange("limits"), routing_key="limits")(channels[0])
        queue.declare()
        connection.Producer(channels[1]).publish("fine", routing_key="limits", exchange="limits")
        message = queue.get(no_ack=True)
        assert message is not None
        assert message.payload == "fine"
        connection.reconnect()  # asks the broker over one of the channels whether it is there
        assert tree_of(connection).session.epochs == 1
        channels.pop().close()
        channels.append(connection.channel())
        queue.delete()


async def test_the_subscription_and_the_publish_too_many_raise_at_once(
    four_channels: tuple[str, dict[str, Any]],
) -> None:
    """Native: ``ChannelLimitExceeded``, and nothing is left behind; when a subscription ends there is room."""
    url, options = four_channels
    async with open_broker(url, transport_options=options) as broker:
        await broker.declare(QueueSpec(name="limits"))
        async with broker.subscribe("limits"), broker.subscribe("limits"):
            async with broker.subscribe("limits"):
                with trio.fail_after(AT_ONCE), pytest.raises(ChannelLimitExceeded, match="all 4 channels"):
                    async with broker.subscribe("limits"):
                        raise AssertionError("subscribed")
                with trio.fail_after(AT_ONCE), pytest.raises(ChannelLimitExceeded, match="all 4 channels"):
                    await broker.publish("too many", routing_key="limits")
                assert len(broker._actor.channels) == 3
            await broker.publish("fine", routing_key="limits")
        await broker.delete_queue("limits")


def test_a_channel_that_can_not_be_opened_again_is_said_and_comes_back_when_there_is_room(
    node: RabbitMQNode, caplog: pytest.LogCaptureFixture
) -> None:
    """The next session grants fewer channels: those that fit serve on; of the others each call raises at once, the log
    has an ERROR for each, the tree shows it, and as soon as one is closed another one consumes again."""
    got: list[tuple[int, Any]] = []
    with Connection(node.url()) as connection:
        channels = [connection.channel() for _ in range(5)]
        consumers = []
        for number, channel in enumerate(channels):
            queue = Queue(f"limits-{number}", auto_delete=False)

            def handle(body: Any, message: Message, number: int = number) -> None:
                got.append((number, body))
                message.ack()

            consumers.append(connection.Consumer([queue], channel=channel, callbacks=[handle]))
            consumers[-1].consume()
        with granting(node, "channel_max", 4):
            node.close_all_connections()
            wait_for(lambda: sum(channel.is_open for channel in channels) == 3)
            wait_for(lambda: sum(channel.handle.actor.obstacle is not None for channel in channels) == 2)
            for number, channel in enumerate(channels):
                producer = connection.Producer(channel)
                if channel.is_open:
                    producer.publish("fine", routing_key=f"limits-{number}")
                    continue
                began = time.monotonic()
                with pytest.raises(ChannelLimitExceeded, match="all 4 channels"):
                    producer.publish("no", routing_key="limits-0")
                with pytest.raises(ChannelLimitExceeded, match="all 4 channels"):
                    channel.basic_get("limits-0")
                with pytest.raises(ChannelLimitExceeded, match="all 4 channels"):
                    channel.basic_recover(requeue=True)
                assert time.monotonic() - began < AT_ONCE
            while len(got) < 3:
                connection.drain_events(timeout=10)
            said = [record for record in caplog.records if "can't be opened again" in record.getMessage()]
            assert len(said) == 2
            waiting = [channel for channel in channels if not channel.is_open]
            next(channel for channel in channels if channel.is_open).close()
            wait_for(lambda: any(channel.is_open for channel in waiting), timeout=5)
            back = next(number for number, channel in enumerate(channels) if channel in waiting and channel.is_open)
            connection.Producer(channels[back]).publish("back", routing_key=f"limits-{back}")
            while (back, "back") not in got:
                connection.drain_events(timeout=10)
        for number in range(5):
            Queue(f"limits-{number}")(channels[back]).delete()
