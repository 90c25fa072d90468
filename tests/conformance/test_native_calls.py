"""Calls of the native API: what ends them, what they leave behind, and how much they hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from kombu_actors._values.model import ConsumerSpec, Delivery
from kombu_actors.actors.consumer import DesiredConsumer
from kombu_actors.broker import BindingKind, BindingSpec, Broker, Delivered, QueueSpec, Subscription, open_broker
from kombu_actors.errors import ConnectionClosed
from kombu_actors.supervisors import ChildState, Event
from kombu_actors.supervisors.events import ChildReady, ChildStarting

from .native import PATIENCE, fill, payloads, queue, take
from .realms import Realm

Call = Callable[[], Awaitable[object]]


def calls_of(broker: Broker) -> dict[str, Call]:
    """One of each kind."""

    async def enter(manager: object) -> None:
        async with manager:  # type: ignore[attr-defined]  # whichever context manager
            pass

    binding = BindingSpec(kind=BindingKind.QUEUE, source="amq.direct", destination="q", routing_key="k")
    return {
        "declare": partial(broker.declare, QueueSpec(name="q")),
        "inspect": partial(broker.inspect_queue, "q"),
        "unbind": partial(broker.unbind, binding),
        "purge": partial(broker.purge_queue, "q"),
        "delete queue": partial(broker.delete_queue, "q"),
        "delete exchange": partial(broker.delete_exchange, "x"),
        "publish": partial(broker.publish, 1, routing_key="q"),
        "publish_many": partial(broker.publish_many, [1], routing_key="q"),
        "request": partial(broker.request, 1, routing_key="q"),
        "get": partial(broker.get, "q"),
        "consume": partial(broker.consume, "q", _handle),
        "subscribe": lambda: enter(broker.subscribe("q")),
        "wait_ready": broker.wait_ready,
    }


async def _handle(message: Delivered) -> None:
    """It is acked."""


async def test_after_its_block_every_call_is_refused_at_once(realm: Realm) -> None:
    """Those who kept the broker, a subscription, or a message are told, and wait for nothing."""
    async with realm.open_broker() as broker, trio.open_nursery() as nursery:
        await queue(broker, "q")
        await fill(broker, "q", 1, 2)
        ready = trio.Event()
        kept: list[Subscription | Delivered] = []

        async def keep_subscription() -> None:
            async with broker.subscribe("q") as messages:
                kept.extend([messages, await anext(messages)])
                ready.set()
                await trio.sleep_forever()

        nursery.start_soon(keep_subscription)
        await ready.wait()
        # The nursery is inside, so this is what a program sees whose subscription outlives the broker's block.
        broker.refuse_calls()
        messages, message = kept
        assert isinstance(messages, Subscription)
        with pytest.raises(ConnectionClosed):
            await take(messages, 3)
        nursery.cancel_scope.cancel()
    assert isinstance(message, Delivered)
    assert message.stale
    assert not message.ack()
    calls = calls_of(broker) | {"events": lambda: _entered(broker)}
    for name, call in calls.items():
        began = trio.current_time()
        with pytest.raises(ConnectionClosed):
            await call()
        assert trio.current_time() - began < 1, name


async def _entered(broker: Broker) -> None:
    async with broker.events():
        pass


async def test_the_end_of_the_block_wakes_calls_that_wait(realm: Realm) -> None:
    """Tasks outside of the block, waiting for a session that never comes, are told when it is left."""
    outcomes: dict[str, BaseException] = {}

    async def outcome_of(name: str, call: Call) -> None:
        try:
            await call()
        except ConnectionClosed as error:
            outcomes[name] = error

    waiting_for_ever = realm.open_broker(realm.dead, wait=False, keep_dialling=True)
    async with trio.open_nursery() as nursery, waiting_for_ever as broker:
        calls = calls_of(broker)
        for name, call in calls.items():
            nursery.start_soon(outcome_of, name, call)
        await trio.testing.wait_all_tasks_blocked(0.05)
        left_at = trio.current_time()
    assert outcomes.keys() == calls.keys()
    assert trio.current_time() - left_at < PATIENCE / 4


async def test_the_end_of_the_block_wakes_publishes_under_way(realm: Realm) -> None:
    """Each has its outcome by then: confirmed, unknown, or never sent."""
    outcomes: list[str] = []

    async def publish(broker: Broker) -> None:
        try:
            await broker.publish(1, routing_key="q")
            outcomes.append("confirmed")
        except Exception as error:
            outcomes.append(type(error).__name__)

    async with trio.open_nursery() as nursery:
        async with realm.open_broker() as broker:
            await queue(broker, "q")
            await fill(broker, "q", 0)
            for _ in range(200):
                nursery.start_soon(publish, broker)
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.deadline = trio.current_time() + PATIENCE
    assert len(outcomes) == 200
    assert set(outcomes) <= {"confirmed", "PublishUnknown", "ConnectionClosed"}


async def test_each_message_wakes_a_task_that_waits(realm: Realm) -> None:
    """Workers that share a subscription work side by side: a batch of four is begun by four."""
    begun: list[int] = []
    all_begun = trio.Event()

    async def work(messages: Subscription) -> None:
        async for message in messages:
            begun.append(message.payload_as(int))
            if len(begun) == 4:
                all_begun.set()
            await trio.sleep_forever()

    async with realm.open_broker() as broker, trio.open_nursery() as nursery:
        await queue(broker, "q")
        async with broker.subscribe("q") as messages:
            for _ in range(4):
                nursery.start_soon(work, messages)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as publishing:
                for number in range(4):
                    publishing.start_soon(partial(broker.publish, number, routing_key="q"))
            with trio.fail_after(PATIENCE):
                await all_begun.wait()
            nursery.cancel_scope.cancel()
    assert sorted(begun) == [0, 1, 2, 3]


@pytest.mark.parametrize("part", ["channel", "consumer"])
async def test_what_is_given_up_while_supervision_starts_it_is_forgotten(realm: Realm, part: str) -> None:
    """The session is lost while it is made, so supervision brings it up; its caller gives up right then."""
    giving_up = trio.CancelScope()
    harmed: list[str] = []
    harm_at, started = {
        "channel": ((ChildStarting, "channels/2"), "channels/2"),
        "consumer": ((ChildReady, "channels/2/consumers"), "channels/2/consumers/given-up"),
    }[part]

    def listener(event: Event) -> None:
        if not harmed and (type(event), event.path) == harm_at:
            harmed.append(event.path)
            realm.cut_connections()
        elif harmed and event.path == started and isinstance(event, ChildStarting) and event.epoch > 1:
            giving_up.cancel()

    async with realm.open_broker(listener=listener) as broker:
        await queue(broker, "q")
        await fill(broker, "q", 1)  # opens channel 1
        actor = broker._actor
        with trio.fail_after(PATIENCE), giving_up:
            channel = await actor.open_channel()
            await actor.consumers.add(channel, DesiredConsumer(ConsumerSpec(tag="given-up", queue="q"), _ignore))
        assert giving_up.cancelled_caught
        with trio.fail_after(PATIENCE):
            await broker.wait_ready()
            async with broker.events() as stream:
                while _is_there(broker, started):
                    await anext(stream)
            while (await broker.inspect_queue("q")).consumers:
                """A subscription that the broker granted after the cancellation is taken back."""


def _ignore(epoch: object) -> Callable[[list[Delivery]], None]:
    """Nobody is there to take anything."""
    return lambda batch: None


def _is_there(broker: Broker, path: str) -> bool:
    found = broker.snapshot().find(path)
    return found is not None and found.state not in (ChildState.STOPPED, ChildState.COMPLETED)


@pytest.mark.parametrize("options", [{"no_ack": True}, {"prefetch": 0}], ids=["no_ack", "no prefetch"])
async def test_a_subscription_that_nobody_reads_holds_no_more_than_its_bound(
    realm: Realm, options: dict[str, Any]
) -> None:
    """Reading pauses; calls and publishes over the same connection go on, and in the end all arrives in order."""
    limit, size, count = 256 * 1024, 1_000, 1_500
    async with realm.open_broker() as other, realm.open_broker(buffer_max=limit) as broker:
        await queue(broker, "q")
        await queue(broker, "elsewhere")
        bodies = [number.to_bytes(2, "big") + bytes(size) for number in range(count)]
        for body in bodies:
            await other.publish(body, routing_key="q", content_type="application/octet-stream", persistent=False)
        async with broker.subscribe("q", **options) as messages:
            held = await _steady(lambda: messages.buffered)
            # One read of the wire, one claim, or what the broker in this process has sent (1,000) comes on top.
            assert limit < held * (size + 1024) < limit + 1_100 * (size + 1024)
            with trio.fail_after(PATIENCE):
                await fill(broker, "elsewhere", 1)
                assert (await broker.inspect_queue("elsewhere")).messages == 1
            with trio.fail_after(PATIENCE):
                for body in bodies:
                    message = await anext(messages)
                    message.ack()
                    assert message.body == body
        async with broker.subscribe("elsewhere") as messages:
            assert await payloads(messages, 1) == [1]


async def _steady(count: Callable[[], int]) -> int:
    """A number that has grown, once it grows no more."""
    with trio.fail_after(PATIENCE):
        seen = 0
        while not seen or count() != seen:
            seen = count()
            await trio.sleep(0.3)  # nothing tells that reading has paused: that is its nature
    return seen


async def test_a_subscription_in_a_dead_broker_ends_by_its_deadline(realm: Realm) -> None:
    """Each call names what it was about and what the connection is like."""
    async with open_broker(realm.dead, wait=False, keep_dialling=True, transport_options=realm.options) as broker:
        calls: dict[str, Call] = {
            "declare": partial(broker.declare, QueueSpec(name="q"), timeout=0.1),
            "inspect": partial(broker.inspect_queue, "q", timeout=0.1),
            "purge": partial(broker.purge_queue, "q", timeout=0.1),
            "delete": partial(broker.delete_queue, "q", timeout=0.1),
            "publish": partial(broker.publish, 1, routing_key="q", timeout=0.1),
            "ready": partial(broker.wait_ready, timeout=0.1),
        }
        for name, call in calls.items():
            began = trio.current_time()
            with pytest.raises(TimeoutError, match=r"took longer than 0\.1 s: not connected to"):
                await call()
            assert trio.current_time() - began < 1, name
        with pytest.raises(TimeoutError, match="subscribing to queue 'q' took longer"):
            async with broker.subscribe("q", timeout=0.1):
                pytest.fail("entered")
