"""Each call does what the one of ``kombu_actors.broker`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kombu_actors import aio
from kombu_actors import broker as native
from kombu_actors.actors.publisher import WINDOW_MESSAGES
from kombu_actors.aio import BindingKind, BindingSpec, Broker, Delivered, ExchangeSpec, QueueSpec, Subscription
from kombu_actors.errors import (
    ConnectionClosed,
    DeadlineExceeded,
    EncodeError,
    NotFound,
    PublishErrors,
    PublishReturned,
)
from kombu_actors.supervisors import ChildState, Event
from kombu_actors.supervisors.events import ChildReady
from tests.conformance.realms import Realm

from .running import connect, in_loop, payloads, queue, ready


def test_the_names_are_the_same() -> None:
    """Whoever knows one knows the other; values and messages are of the same classes."""
    assert aio.__all__ == native.__all__

    def public(cls: type) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    assert public(aio.Broker) - {"leave", "abandon"} == public(native.Broker)
    assert {aio.Delivered, aio.Subscription, aio.QueueSpec} == {native.Delivered, native.Subscription, native.QueueSpec}


@in_loop
async def test_the_topology_is_declared_looked_at_and_deleted(realm: Realm) -> None:
    """A queue that the broker names goes by its name."""
    async with connect(realm) as broker:
        key = BindingSpec(kind=BindingKind.QUEUE, source="x", destination="q", routing_key="k")
        info = await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="q"), key)
        assert info == ("q", 0, 0)
        assert await broker.declare(ExchangeSpec(name="x")) is None
        await broker.publish(1, exchange="x", routing_key="k", mandatory=True)
        assert await broker.inspect_queue("q") == ("q", 1, 0)
        await broker.unbind(key)
        with pytest.raises(PublishReturned):
            await broker.publish(1, exchange="x", routing_key="k", mandatory=True)
        assert await broker.purge_queue("q") == 1
        assert await broker.delete_queue("q") == 0
        await broker.delete_exchange("x")
        with pytest.raises(NotFound):
            await broker.inspect_queue("q")
        named = await broker.declare(QueueSpec(name="", exclusive=True))
        assert broker.queue_name(named.name) == named.name
        assert broker.waiting() == []


@in_loop
async def test_publishes_arrive_in_order_and_confirmed(realm: Realm) -> None:
    """One by one, many in one call out of a generator that runs in this thread, and large ones."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        for number in range(5):
            await broker.publish(number, routing_key="q", priority=None, app_id="one by one")
        many = WINDOW_MESSAGES + 500
        here = asyncio.get_running_loop()

        def numbers() -> Iterator[int]:
            for number in range(5, many):
                assert asyncio.get_running_loop() is here
                yield number

        assert await broker.publish_many(numbers(), routing_key="q", timeout=60) == many - 5
        await broker.publish(b"x" * 100_000, routing_key="q")
        assert await broker.publish_many([], routing_key="q") == 0
        assert await ready(broker, "q") == many + 1
        async with broker.subscribe("q", no_ack=True, accept=["json", "application/data"]) as messages:
            got = [(await anext(messages)).payload for _ in range(many + 1)]
    assert got == [*range(many), b"x" * 100_000]


@in_loop
async def test_more_publishes_than_the_window_holds_wait_for_room(realm: Realm) -> None:
    """As many tasks as there are; all are confirmed, whatever their timeouts."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish("first", routing_key="q")
        async with asyncio.TaskGroup() as group:
            for number in range(WINDOW_MESSAGES + 200):
                group.create_task(broker.publish(number, routing_key="q", timeout=15 + number % 3))
        assert await ready(broker, "q") == WINDOW_MESSAGES + 201


@in_loop
async def test_failed_publishes_say_why(realm: Realm) -> None:
    """What can't be sent fails before a byte is; the first failure of many ends them."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish(0, routing_key="q")
        with pytest.raises(EncodeError):
            await broker.publish(object(), routing_key="q")
        with pytest.raises(PublishReturned):
            await broker.publish(1, routing_key="nowhere", mandatory=True)
        with pytest.raises(PublishErrors) as told:
            await broker.publish_many([1, object(), 2], routing_key="q")
        assert [type(one) for one in told.value.outcomes] == [type(None), EncodeError]

        def broken() -> Iterator[int]:
            yield 1
            raise ZeroDivisionError("of the program")

        with pytest.raises(ZeroDivisionError, match="of the program"):
            await broker.publish_many(broken(), routing_key="q")
        with pytest.raises(EncodeError):
            await broker.request(object(), routing_key="q")


@in_loop
async def test_a_request_is_answered_or_ends_in_time(realm: Realm) -> None:
    """By whoever serves; nobody serves, nobody answers."""
    async with connect(realm) as broker:
        await queue(broker, "service")
        await queue(broker, "silent")

        async def double(message: Delivered) -> None:
            assert message.reply_to is not None
            await broker.publish(
                2 * message.payload_as(int), routing_key=message.reply_to, correlation_id=message.correlation_id
            )

        worker = asyncio.create_task(broker.consume("service", double, concurrency=5))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(broker.request(number, routing_key="service")) for number in range(20)]
        assert [task.result().payload for task in asked] == list(range(0, 40, 2))
        with pytest.raises(DeadlineExceeded, match=r"the request to 'silent' took longer than 0\.05 s"):
            await broker.request(1, routing_key="silent", timeout=0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await broker.request(1, routing_key="silent")
        with pytest.raises(PublishReturned):
            await broker.request(1, routing_key="nowhere")
        worker.cancel()
        await asyncio.wait([worker])
        assert worker.cancelled()


@in_loop
async def test_one_message_is_got_and_settled(realm: Realm) -> None:
    """Acked, put back, or left: then it goes back with the connection."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        assert await broker.get("q") is None
        await broker.publish_many([1, 2], routing_key="q")
        message = await broker.get("q")
        assert message is not None
        assert (message.payload, message.redelivered, message.ack(), message.settled) == (1, False, True, True)
        message = await broker.get("q")
        assert message is not None
        message.requeue()
        message = await broker.get("q")
        assert message is not None
        assert (message.payload, message.redelivered) == (2, True)
    assert not message.ack()
    async with connect(realm) as broker, broker.subscribe("q") as messages:
        assert await payloads(messages, 1) == [2]


@in_loop
async def test_a_block_around_a_message_settles_it(realm: Realm) -> None:
    """Acked; dead-lettered when it raised; put back when its task was cancelled."""
    async with connect(realm) as broker:
        await queue(broker, "dead")
        await queue(broker, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
        await broker.publish_many(["good", "bad", "late"], routing_key="q")
        async with broker.subscribe("q") as messages:
            async with await anext(messages) as message:
                assert message.payload == "good"
            with pytest.raises(ZeroDivisionError):
                async with await anext(messages):
                    raise ZeroDivisionError
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), await anext(messages):
                    await asyncio.Event().wait()
            again = await anext(messages)
            assert (again.payload, again.redelivered) == ("late", True)
            again.ack()
        async with broker.subscribe("dead") as dead:
            assert await payloads(dead, 1) == ["bad"]
        assert await ready(broker, "q") == 0


@in_loop
async def test_several_tasks_share_a_subscription_and_it_stops(realm: Realm) -> None:
    """Each message is had by one; what is here is handed out after ``stop``, and then each task's loop ends."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        async with broker.subscribe("q") as messages:
            got: list[object] = []

            async def take() -> None:
                async for message in messages:
                    got.append(message.payload)
                    message.ack()
                    if len(got) == 100:
                        await messages.stop()

            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(take())
                await broker.publish_many(range(100), routing_key="q")
            assert sorted(got, key=str) == sorted(range(100), key=str)
            assert messages.buffered == 0


@in_loop
async def test_a_stopped_subscription_may_give_back_what_is_here(realm: Realm) -> None:
    """At once, for others."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish_many(range(10), routing_key="q")
        async with broker.subscribe("q") as messages:
            (await anext(messages)).ack()
            await messages.stop(drain=False)
            assert [message async for message in messages] == []
            while await ready(broker, "q") < 9:
                """The broker has yet to read it."""


@in_loop
async def test_supervision_is_seen(realm: Realm) -> None:
    """As a picture, as a stream, by a listener, which is called in this loop."""
    heard: list[tuple[asyncio.AbstractEventLoop, Event]] = []

    def listen(event: Event) -> None:
        heard.append((asyncio.get_running_loop(), event))

    async with connect(realm, listener=listen, wait=False) as broker, broker.events() as stream:
        await broker.wait_ready()
        assert broker.snapshot().state is ChildState.READY
        await queue(broker, "q")
        async with broker.subscribe("q"):
            async for event in stream:
                if isinstance(event, ChildReady) and "consumers/" in event.path:
                    break
    assert {loop for loop, _ in heard} == {asyncio.get_running_loop()}
    assert any(isinstance(event, ChildReady) and event.path == "session" for _, event in heard)


@in_loop
async def test_after_its_block_every_call_is_refused_at_once(realm: Realm) -> None:
    """Whoever kept the broker, a subscription or a message is told; so is who waits right then."""
    kept: list[Subscription] = []
    async with asyncio.TaskGroup() as group:
        async with connect(realm) as broker:
            await queue(broker, "q")
            await queue(broker, "silent")
            subscribed = asyncio.Event()

            async def keep() -> None:
                async with broker.subscribe("q") as messages:
                    kept.append(messages)
                    subscribed.set()
                    with pytest.raises(ConnectionClosed, match="the block of this broker"):
                        await anext(messages)

            async def wait() -> None:
                with pytest.raises(ConnectionClosed):
                    await broker.request(1, routing_key="silent")

            group.create_task(keep())
            group.create_task(wait())
            await subscribed.wait()
            async with broker.events() as stream:
                pass
        for call in (broker.publish(1, routing_key="q"), broker.get("q"), queue(broker, "q"), broker.wait_ready()):
            with pytest.raises(ConnectionClosed):
                await call
        with pytest.raises(ConnectionClosed):
            async with broker.subscribe("q"):
                pass
    assert isinstance([event async for event in stream], list), "it ends"


@in_loop
async def test_several_brokers_in_one_loop(realm: Realm) -> None:
    """Each has its own connection."""
    async with connect(realm) as one, connect(realm) as other:
        await queue(one, "q")
        await one.publish(1, routing_key="q")

        async def get(broker: Broker) -> object:
            message = await broker.get("q")
            return message and message.payload

        assert (await get(other), await get(one)) == (1, None)
