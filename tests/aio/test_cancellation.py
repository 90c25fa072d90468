"""Every call, its task cancelled at each step that the runtime takes for it: nothing is left, all goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import attrs
import pytest
import trio

from kombu_actors.aio import Broker, Delivered, ExchangeSpec, QueueSpec, Subscription
from tests.conformance.native import to_queue
from tests.conformance.realms import Realm

from .running import connect, in_loop, queue, ready

STOCK = 3
"""Messages in the queue before each call, and after it, but for what the call has taken out."""


class CancelAt(trio.abc.Instrument):
    """Cancels a task of the loop after so many steps of whichever tasks of the runtime."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], steps: int) -> None:
        self._loop = loop
        self._task = task
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """One more step was taken."""
        self.left -= 1
        if self.left == 0:
            self._loop.call_soon_threadsafe(self._task.cancel)


async def cancelled_at(broker: Broker, call: Callable[[], Awaitable[None]], steps: int) -> bool:
    """Cancel a call after so many steps; False when it was through before that."""

    async def make() -> None:
        await call()

    portal = broker._handle.portal
    task = asyncio.create_task(make())
    instrument = CancelAt(asyncio.get_running_loop(), task, steps)
    portal.post(trio.lowlevel.add_instrument, instrument)
    await asyncio.wait([task])
    portal.post(trio.lowlevel.remove_instrument, instrument)
    if not task.cancelled():
        task.result()
    return task.cancelled()


@attrs.define
class Taken:
    """How many messages of the stock a call has surely taken out of the queue."""

    messages: int = 0


def calls_of(broker: Broker, taken: Taken) -> dict[str, Callable[[], Awaitable[None]]]:
    """Each leaves the queue ``q`` as it was, but for what it has taken."""

    async def declare() -> None:
        await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="r"), to_queue("r", "x", "k"))

    async def inspect() -> None:
        await broker.inspect_queue("q")

    async def publish() -> None:
        await broker.publish(1, routing_key="amount")

    async def publish_large() -> None:
        await broker.publish(b"x" * 20_000, routing_key="amount")

    async def publish_many() -> None:
        await broker.publish_many(range(300), routing_key="amount")

    async def request() -> None:
        assert (await broker.request(2, routing_key="service")).payload == 4

    async def get() -> None:
        message = await broker.get("q")
        if message is not None:
            message.requeue()

    async def subscribe() -> None:
        async with broker.subscribe("q", prefetch=2) as messages:
            async for message in messages:
                taken.messages += message.ack()
                break

    async def stop() -> None:
        async with broker.subscribe("q", prefetch=2) as messages:
            await messages.stop(drain=False)

    async def consume() -> None:
        started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()

        async def handle(message: Delivered) -> None:
            taken.messages += message.ack()
            await started.result().stop()

        await broker.consume("q", handle, concurrency=2, prefetch=1, started=started)

    async def wait_ready() -> None:
        await broker.wait_ready()

    async def events() -> None:
        async with broker.events():
            pass

    calls = (
        *(declare, inspect, publish, publish_large, publish_many, request),
        *(get, subscribe, stop, consume, wait_ready, events),
    )
    return {call.__name__: call for call in calls}


NAMES = tuple(calls_of(None, Taken()))  # type: ignore[arg-type]  # only their names


async def stock(broker: Broker) -> tuple[int, ...]:
    """What there is of tasks in the loop, of channels and calls in the runtime, and of those who wait."""
    jobs, scopes = broker._handle.portal._jobs, broker._block._scopes
    numbers = (len(asyncio.all_tasks()), len(broker._actor.channels), len(jobs), len(scopes))
    return (*numbers, len(broker._handle.waiting), len(broker._subscriptions), len(broker._readers))


@pytest.mark.parametrize("name", NAMES)
@in_loop
async def test_a_cancelled_call_leaves_nothing_and_harms_nothing(realm: Realm, name: str) -> None:
    """No task, channel, call or unsettled message is left; the connection, which was never lost, goes on."""
    taken = Taken()

    async def double(message: Delivered) -> None:
        assert message.reply_to is not None
        await broker.publish(4, routing_key=message.reply_to, correlation_id=message.correlation_id)

    async with connect(realm) as broker:
        for one in ("q", "amount", "probe", "service"):
            await queue(broker, one)
        started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(broker.consume("service", double, started=started))
        await started
        await broker.publish_many(range(STOCK), routing_key="q")
        call = calls_of(broker, taken)[name]
        await call()  # what is opened once for all calls is open
        await broker.get("probe")
        await broker.publish("warm", routing_key="amount")

        async def check() -> None:
            await broker.publish("probe", routing_key="probe")
            message = await broker.get("probe")
            assert message is not None
            assert message.ack()
            while (info := await broker.inspect_queue("q")).consumers or info.messages != STOCK - taken.messages:
                """What was cancelled is taken back."""
            await broker.publish_many(range(taken.messages), routing_key="q")
            taken.messages = 0
            while (now := await stock(broker)) != before:
                await asyncio.sleep(0)
                assert now >= before

        await broker.publish_many(range(taken.messages), routing_key="q")
        taken.messages = 0
        before = await stock(broker)
        for steps in count(1, 2):
            cancelled = await cancelled_at(broker, call, steps)
            await check()
            if not cancelled:
                break
        assert broker.snapshot().restarts == 0
        server.cancel()
        await asyncio.wait([server])


@in_loop
async def test_a_message_that_comes_for_a_cancelled_get_goes_back(realm: Realm) -> None:
    """Also when its task is cancelled at the very moment at which it has come, and cancelled once more."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish("one", routing_key="q")
        await broker.inspect_queue("q")
        for turns in range(12):
            task = asyncio.create_task(broker.get("q"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (message := task.result()) is not None:
                message.requeue()
            while await ready(broker, "q") < 1:
                """The broker has yet to read it."""


@in_loop
async def test_a_cancelled_publish_is_not_sent_when_it_was_not_yet(realm: Realm) -> None:
    """Cancelled before the runtime has it, nothing is published."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish("first", routing_key="q")
        task = asyncio.create_task(broker.publish("never", routing_key="q"))
        broker._handle.to_runtime._rung = True  # the runtime hears of it later
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        broker._handle.to_runtime._rung = False
        await broker.publish("last", routing_key="q")
        async with broker.subscribe("q", no_ack=True) as messages:
            assert [(await anext(messages)).payload for _ in range(2)] == ["first", "last"]


@in_loop
async def test_a_timeout_ends_a_call_and_a_consumer_and_nothing_else(realm: Realm) -> None:
    """``asyncio.timeout`` raises ``TimeoutError``, as does a call's own."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        async with broker.subscribe("q") as messages:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await anext(messages)
            await broker.publish(1, routing_key="q")
            assert (await anext(messages)).ack()

        async def hang(message: Delivered) -> None:
            await asyncio.Event().wait()

        await broker.publish(2, routing_key="q")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await broker.consume("q", hang)
        assert await ready(broker, "q") == 1


@in_loop
async def test_a_cancelled_opening_leaves_no_connection(realm: Realm) -> None:
    """Cancelled after more and more turns of the loop, once and then twice in a row."""

    async def program() -> None:
        async with connect(realm) as broker, broker.subscribe("q"):
            await broker.publish(1, routing_key="q")

    async with connect(realm) as broker:
        await queue(broker, "q")
    for turns in [*range(1, 8), *range(8, 200, 24)]:
        for times in (1, 2):
            task = asyncio.create_task(program())
            for _ in range(turns):
                await asyncio.sleep(0)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None
    while await asyncio.to_thread(realm.connections):
        """Those that nobody waited for are about to end."""
