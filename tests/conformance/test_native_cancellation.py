"""Every native call, cancelled at each step that the runtime takes while it is made: nothing is left, all goes on.

The steps are those of all tasks, actors included; so a call is also cancelled while others work for it, and at the
moment when its answer is there already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count

import attrs
import pytest
import trio

from kombu_actors.broker import Broker, Delivered, ExchangeSpec, QueueSpec
from kombu_actors.supervisors import ChildState, ChildView
from tests.support.cancelling import CancelAt, cancelled_everywhere
from tests.support.processes import wait_until

from .native import PATIENCE, fill, queue, restarted, to_queue
from .realms import REALMS, Realm
from .test_native_requests import serving

STOCK = 3
"""Messages in the queue before each call, and after it, but for what the call has taken out."""


@pytest.fixture(params=["amqp", "memory", "redis"])
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """One broker of each transport."""
    yield from REALMS[request.param](request)


@attrs.define
class Taken:
    """How many messages of the stock a call has surely taken out of the queue."""

    messages: int = 0


async def ignore(message: Delivered) -> None:
    """It is acked."""


def calls_of(broker: Broker, taken: Taken) -> dict[str, Callable[[], Awaitable[None]]]:
    """Each leaves the queue ``q`` as it was, but for what it has taken."""

    async def declare() -> None:
        await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="r"), to_queue("r", "x", "k"))

    async def undeclare() -> None:
        await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="r"), to_queue("r", "x", "k"))
        await broker.unbind(to_queue("r", "x", "k"))
        await broker.purge_queue("r")
        await broker.delete_queue("r")
        await broker.delete_exchange("x")

    async def inspect() -> None:
        await broker.inspect_queue("q")

    async def publish() -> None:
        await broker.publish(1, routing_key="amount")

    async def publish_many() -> None:
        await broker.publish_many(range(40), routing_key="amount")

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
        async def handle(message: Delivered) -> None:
            taken.messages += message.ack()
            await messages.stop()

        async with trio.open_nursery() as nursery:
            messages = await nursery.start(partial(broker.consume, "q", handle, concurrency=2, prefetch=1))

    async def wait_ready() -> None:
        await broker.wait_ready()

    async def events() -> None:
        async with broker.events():
            await trio.lowlevel.checkpoint()

    calls = (
        *(declare, undeclare, inspect, publish, publish_many, request),
        *(get, subscribe, stop, consume, wait_ready, events),
    )
    return {call.__name__: call for call in calls}


NAMES = tuple(calls_of(None, Taken()))  # type: ignore[arg-type]  # only their names


def unready(view: ChildView) -> list[str]:
    """The paths of all actors that don't serve."""
    wrong = [path for child in view.children for path in unready(child)]
    return wrong if view.state is ChildState.READY else [f"{view.path}: {view.state.value}", *wrong]


@pytest.mark.parametrize("name", NAMES)
async def test_a_cancelled_call_leaves_nothing_and_harms_nothing(realm: Realm, name: str) -> None:
    """No task, channel, consumer or unsettled message is left; the connection, which was never lost, goes on."""
    taken = Taken()
    async with serving(realm) as server, realm.open_broker() as broker:
        for one in ("q", "amount", "probe"):
            await queue(broker, one)
        await fill(broker, "q", *range(STOCK))
        call = calls_of(broker, taken)[name]
        await call()  # what is opened once for all calls is open
        await broker.get("probe")

        async def stock() -> tuple[int, int, int]:
            await trio.testing.wait_all_tasks_blocked()
            tasks = trio.lowlevel.current_statistics().tasks_living
            return tasks, len(broker._actor.channels), len(broker._block._scopes)

        async def check() -> None:
            with trio.fail_after(PATIENCE):
                await broker.publish("probe", routing_key="probe")
                message = await broker.get("probe")
                assert message is not None
                assert message.ack()
                while (info := await broker.inspect_queue("q")).consumers or info.messages != STOCK - taken.messages:
                    """What was cancelled is taken back."""
                await fill(broker, "q", *range(taken.messages))
                taken.messages = 0
                while (now := await stock()) != before:
                    assert now >= before
                    await trio.lowlevel.checkpoint()
            assert unready(broker.snapshot()) == []
            assert restarted(broker) == []

        await fill(broker, "q", *range(taken.messages))
        taken.messages = 0
        before = await stock()
        await cancelled_everywhere(call, check)
        await server.wait_ready()


@pytest.mark.parametrize("name", ["publish", "publish_many", "request", "get"])
async def test_a_cancelled_first_call_leaves_only_what_the_next_one_uses(realm: Realm, name: str) -> None:
    """The channel, and the queue for replies, that such calls share is opened once, however often that is begun."""

    async def stock(broker: Broker) -> tuple[int, int, int]:
        with trio.fail_after(PATIENCE):
            await calls_of(broker, Taken())[name]()
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        return tasks, len(broker._actor.channels), len(realm.depths())

    async with serving(realm) as server:
        for one in ("q", "amount"):
            await queue(server, one)
        async with realm.open_broker() as broker:
            expected = await stock(broker)
        for steps in count(1):
            async with realm.open_broker() as broker:
                with trio.CancelScope() as scope:
                    instrument = CancelAt(scope, steps)
                    trio.lowlevel.add_instrument(instrument)
                    try:
                        await calls_of(broker, Taken())[name]()
                    finally:
                        trio.lowlevel.remove_instrument(instrument)
                with trio.fail_after(PATIENCE):
                    while (now := await stock(broker)) != expected:
                        assert now >= expected
                assert restarted(broker) == []
            if instrument.left > 0:
                break


async def test_a_cancelled_opening_leaves_no_connection(realm: Realm) -> None:
    """Nor does a cancelled leaving; each is over at once."""

    async def call() -> None:
        async with realm.open_broker() as broker, broker.subscribe("q"):
            await broker.publish(1, routing_key="q")

    async def check() -> None:
        return

    async with realm.open_broker() as broker:
        await queue(broker, "q")
    tasks = trio.lowlevel.current_statistics().tasks_living
    await cancelled_everywhere(call, check)
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    gone = partial(wait_until, lambda: realm.connections() == 0, timeout=PATIENCE, waiting_for="the last connection")
    await trio.to_thread.run_sync(gone)
