"""What ends a connection, a loop, a process, and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import trio
from amqp.exceptions import NotAllowed

from kombu_actors import aio
from kombu_actors import broker as native
from kombu_actors._bridge import leases
from kombu_actors.aio import Broker, Delivered, OnError, QueueSpec, Subscription, open_broker
from kombu_actors.errors import BrokerUnreachable, InvalidURL, NotFound, RuntimeDied, RuntimeStopped
from kombu_actors.transport.memory import forget_memory_broker, memory_broker
from kombu_actors.utils.uuid import uuid
from tests.bridge.test_runtime import kill_runtime
from tests.conformance.realms import Realm
from tests.support.brokers import RabbitMQNode
from tests.support.leaks import no_leaks

from .conftest import LOOPS
from .running import PATIENCE, connect, in_loop, payloads, queue, ready

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def memory() -> Iterator[str]:
    """A broker in this process, under a name of its own, which has no connection left in the end."""
    name = uuid()
    yield f"memory://{name}"
    assert len(memory_broker(name).links) == 0
    forget_memory_broker(name)


# -- opening ----------------------------------------------------------------------------------------------


@in_loop
async def test_opening_raises_what_keeps_it_from_connecting(realm: Realm) -> None:
    """Bare; nothing is left behind."""
    with pytest.raises(BrokerUnreachable):
        async with open_broker(realm.dead):
            pass
    with pytest.raises(InvalidURL):
        async with open_broker("amqp://localhost?heartbeat=1"):
            pass
    with pytest.raises(ZeroDivisionError):
        async with connect(realm):
            raise ZeroDivisionError


def test_each_door_names_the_other_where_it_is_the_wrong_one() -> None:
    """asyncio's in trio, trio's in asyncio, either in no loop at all."""

    async def enter(door: Callable[[str], contextlib.AbstractAsyncContextManager[object]]) -> None:
        async with door("memory://"):
            pass

    with pytest.raises(RuntimeError, match=r"this is a task of trio: use kombu_actors\.broker"):
        trio.run(enter, aio.open_broker)
    with pytest.raises(RuntimeError, match=r"in asyncio, uvloop included, use kombu_actors\.aio"):
        asyncio.run(enter(native.open_broker))
    coroutine = enter(aio.open_broker)
    with pytest.raises(RuntimeError, match="needs a running asyncio loop"):
        coroutine.send(None)


# -- consume ----------------------------------------------------------------------------------------------


@in_loop
async def test_an_error_of_a_handler_may_end_consume_and_comes_out_bare(realm: Realm) -> None:
    """The other handlers are cancelled; every message that was not done goes back."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish_many(["slow", "slow", "bad"], routing_key="q")

        async def handle(message: Delivered) -> None:
            if message.payload == "bad":
                raise ZeroDivisionError
            await asyncio.Event().wait()

        with pytest.raises(ZeroDivisionError):
            await broker.consume("q", handle, concurrency=3, on_error=OnError.RAISE)
        assert await ready(broker, "q") == 3


@in_loop
async def test_failed_messages_are_dealt_with_and_the_next_ones_handled(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that lets out the cancellation of something it awaited has failed; it is not taken for its own."""
    async with connect(realm) as broker:
        await queue(broker, "dead")
        await queue(broker, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
        await broker.publish_many(["bad", "cancelled", "good"], routing_key="q")
        started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()

        async def handle(message: Delivered) -> None:
            if message.payload == "bad":
                raise ZeroDivisionError
            if message.payload == "cancelled":
                other = asyncio.create_task(asyncio.sleep(100))
                other.cancel()
                await other
            await started.result().stop()

        await broker.consume("q", handle, started=started)
        async with broker.subscribe("dead") as dead:
            assert await payloads(dead, 2) == ["bad", "cancelled"]
    assert "let out a CancelledError" in caplog.text


@in_loop
async def test_keys_keep_their_order_and_handlers_run_side_by_side(realm: Realm) -> None:
    """Never two of a key at a time."""
    async with connect(realm) as broker:
        await queue(broker, "q")
        await broker.publish_many(range(60), routing_key="q")
        started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()
        at_work: set[int] = set()
        orders: dict[int, list[int]] = {0: [], 1: [], 2: []}
        most = 0

        def key(message: Delivered) -> int:
            return message.payload_as(int) % 3

        async def handle(message: Delivered) -> None:
            nonlocal most
            assert key(message) not in at_work
            at_work.add(key(message))
            most = max(most, len(at_work))
            await asyncio.sleep(0.001)
            at_work.discard(key(message))
            orders[key(message)].append(message.payload_as(int))
            if sum(map(len, orders.values())) == 60:
                await started.result().stop()

        await broker.consume("q", handle, concurrency=3, key=key, started=started)
        assert orders == {one: list(range(one, 60, 3)) for one in range(3)}
        assert most == 3
        assert await ready(broker, "q") == 0


@in_loop
async def test_who_waits_for_a_subscription_that_never_is_hears_why(realm: Realm) -> None:
    """The task raises it, too."""
    async with connect(realm) as broker:
        started: asyncio.Future[Subscription] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(broker.consume("nowhere", _ignore, started=started))
        with pytest.raises(NotFound):
            await started
        with pytest.raises(NotFound):
            await task
        with pytest.raises(ValueError, match="concurrency is a number of handlers from 1 on, not 0"):
            await broker.consume("nowhere", _ignore, concurrency=0)


async def _ignore(message: Delivered) -> None:
    """It is acked."""


# -- the end of a connection ------------------------------------------------------------------------------


@in_loop
async def test_when_supervision_gives_up_the_block_is_cancelled_and_raises_why(rabbitmq: RabbitMQNode) -> None:
    """Whatever its task waits for; the calls of other tasks raise it, too, and no cancellation is left behind."""
    vhost, subscribed = uuid(), asyncio.Event()
    await asyncio.to_thread(rabbitmq.add_vhost, vhost)
    others: list[asyncio.Task[None]] = []

    async def wait(broker: Broker) -> None:
        async with broker.subscribe("q") as messages:
            subscribed.set()
            await anext(messages)

    async def lose_it() -> None:
        async with open_broker(rabbitmq.url(vhost=vhost)) as broker:
            await queue(broker, "q")
            others.append(asyncio.create_task(wait(broker)))
            await subscribed.wait()
            await asyncio.to_thread(rabbitmq.delete_vhost, vhost)
            await asyncio.Event().wait()

    with pytest.raises(NotAllowed):
        await lose_it()
    with pytest.raises(NotAllowed):
        await others[0]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@in_loop
async def test_when_the_runtime_dies_every_waiting_call_is_told(memory: str) -> None:
    """Those under way and those that come, and the block; another connection gets another runtime."""
    told: list[BaseException] = []
    opened: list[Broker] = []
    others: list[asyncio.Task[None]] = []
    subscribed = asyncio.Event()

    async def tell(call: Awaitable[object]) -> None:
        try:
            await call
        except Exception as error:
            told.append(error)

    async def receive(broker: Broker) -> None:
        async with broker.subscribe("q") as messages:
            subscribed.set()
            await anext(messages)

    async def lose_it() -> None:
        async with open_broker(memory) as broker:
            opened.append(broker)
            await queue(broker, "q")
            await queue(broker, "others")
            await broker.publish(1, routing_key="others")
            others.append(asyncio.create_task(tell(receive(broker))))
            await subscribed.wait()
            others.append(asyncio.create_task(tell(broker.request(1, routing_key="others"))))
            while await ready(broker, "others") < 2:
                """The request is on its way."""
            broker._handle.to_runtime._rung = True  # the runtime does not get to the publish any more
            others.append(asyncio.create_task(tell(broker.publish(1, routing_key="q"))))
            await asyncio.sleep(0)
            await asyncio.to_thread(kill_runtime, broker._handle.portal)
            await asyncio.Event().wait()

    with pytest.raises(RuntimeDied):
        await lose_it()
    await asyncio.wait(others)
    assert [type(error) for error in told] == [RuntimeDied] * 3
    with pytest.raises(RuntimeDied):
        await opened[0].get("q")
    async with open_broker(memory) as again:
        await queue(again, "q")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@in_loop
async def test_a_settlement_before_the_loop_hears_of_the_runtimes_end_is_no_error(memory: str) -> None:
    """It is lost as in a session that ends right then; what waits is told why."""

    async def settle_late() -> None:
        async with open_broker(memory) as broker:
            await queue(broker, "q")
            for number in range(3):
                await broker.publish(number, routing_key="q")
            async with broker.subscribe("q") as messages:
                first, second, third = [await anext(messages) for _ in range(3)]
                kill_runtime(broker._handle.portal)  # in the loop's thread, which hears of it at its next step
                assert first.ack()
                assert second.reject()
                assert third.requeue()
                await anext(messages)

    with pytest.raises(RuntimeDied):
        await settle_late()


# -- the end of a loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOOPS)
def test_nothing_is_left_of_a_loop_that_has_run(kind: str, amqp_url: str) -> None:
    """No thread, no descriptor; the runtime goes with the last connection."""

    async def main() -> None:
        async with open_broker(amqp_url) as broker, open_broker("memory://"):
            await queue(broker, "q")
            await broker.publish(1, routing_key="q")
            async with broker.subscribe("q") as messages:
                await payloads(messages, 1)

    def run() -> None:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main())

    run()
    with no_leaks():
        run()
    assert not [holder for holder in leases._leases if holder is not leases._drain_at_exit]


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_that_is_closed_ends_its_connections(kind: str, memory: str) -> None:
    """Though nobody has left the block, and nothing comes that the loop would have to hear."""
    loop = LOOPS[kind]()
    opening = open_broker(memory)
    broker = loop.run_until_complete(opening.__aenter__())
    loop.run_until_complete(queue(broker, "q"))
    assert len(memory_broker(memory.removeprefix("memory://")).links) == 1
    portal = broker._handle.portal
    loop.close()
    portal._thread.join(PATIENCE)
    assert portal.ended


@pytest.mark.parametrize("kind", LOOPS)
def test_messages_for_a_closed_loop_go_back(kind: str, memory: str) -> None:
    """The subscription ends with the connection."""
    loop = LOOPS[kind]()
    opened = open_broker(memory)
    broker = loop.run_until_complete(opened.__aenter__())
    loop.run_until_complete(queue(broker, "q"))
    subscribed = broker.subscribe("q")  # kept: a loop that runs closes a generator that nobody has any more
    loop.run_until_complete(subscribed.__aenter__())
    loop.close()

    async def look() -> None:
        async with open_broker(memory) as another:
            await another.publish(1, routing_key="q")
            async with another.subscribe("q") as messages:
                async with asyncio.timeout(PATIENCE):
                    await payloads(messages, 1)

    asyncio.run(look())


@pytest.mark.parametrize("kind", LOOPS)
def test_several_loops_in_threads_of_one_process(kind: str, realm: Realm) -> None:
    """Each with its own connection, over one runtime."""

    async def main(number: int) -> int:
        async with connect(realm) as broker:
            await queue(broker, f"q{number}")
            await broker.publish_many(range(100), routing_key=f"q{number}")
            async with broker.subscribe(f"q{number}") as messages:
                assert await payloads(messages, 100) == list(range(100))
            return id(broker._handle.portal)

    def run(number: int) -> int:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            return runner.run(main(number))

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(run, range(4)))) >= 1


PROGRAM = """
import asyncio, sys, uvloop
from kombu_actors.aio import QueueSpec, open_broker

async def handle(message):
    print("at work", flush=True)
    await asyncio.Event().wait()

async def main():
    async with open_broker(sys.argv[1]) as broker:
        await broker.declare(QueueSpec(name="q"))
        await broker.publish(1, routing_key="q")
        try:
            await broker.consume("q", handle)
        finally:
            print("leaving", flush=True)
    print("never")

{run}(main())
"""


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
def test_ctrl_c_leaves_in_order(run: str, amqp_url: str, vhost: str, rabbitmq: RabbitMQNode) -> None:
    """The handler is cancelled, its message goes back, the connection is closed, KeyboardInterrupt comes out."""
    program = [sys.executable, "-W", "error", "-c", PROGRAM.format(run=run), amqp_url]
    with subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert rest == "leaving\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    rabbitmq.wait_until_no_connections(vhost)
    assert rabbitmq.list_queues(vhost)["q"]["messages_ready"] == 1


def test_a_forked_child_is_told_and_may_open_its_own(amqp_url: str) -> None:
    """The parent's connection goes on, and its message is the parent's to ack."""

    async def main() -> int:
        async with open_broker(amqp_url) as broker:
            await queue(broker, "q")
            await broker.publish_many([1, 2], routing_key="q")
            async with broker.subscribe("q", prefetch=1) as messages:
                message = await anext(messages)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks with threads
                    pid = os.fork()
                if not pid:
                    _in_child(broker, message, amqp_url)
                _, status = await asyncio.to_thread(os.waitpid, pid, 0)
                assert message.ack()
                assert await payloads(messages, 1) == [2]
            return os.waitstatus_to_exitcode(status)

    assert asyncio.run(main()) == 0


def _in_child(broker: Broker, message: Delivered, url: str) -> None:
    status = 1
    try:
        with pytest.raises(RuntimeStopped):
            message.ack()
        with pytest.raises(RuntimeStopped):
            broker.publish(1, routing_key="q").send(None)
        threading.Thread(target=asyncio.run, args=(_child(url),)).start()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.name != "kombu_actors":
                thread.join()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


async def _child(url: str) -> None:
    async with open_broker(url) as broker:
        await broker.publish("the child's", routing_key="q")


# -- anyio ------------------------------------------------------------------------------------------------


async def with_anyio(
    open_it: Callable[[str], contextlib.AbstractAsyncContextManager[aio.Broker | native.Broker]],
) -> None:
    """Task groups, timeouts and cancel scopes of anyio's."""
    name = f"memory://{uuid()}"
    async with open_it(name) as broker:
        await broker.declare(QueueSpec(name="q"))
        got: list[object] = []

        async def take() -> None:
            async with broker.subscribe("q") as messages:
                async for message in messages:
                    got.append(message.payload)
                    message.ack()
                    if len(got) == 10:
                        group.cancel_scope.cancel()

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(take)
                await broker.publish_many(range(10), routing_key="q")
            with anyio.move_on_after(0.01) as scope:
                async with broker.subscribe("q") as messages:
                    await anext(messages)
            assert scope.cancelled_caught
            await broker.publish(1, routing_key="q")
            while (await broker.inspect_queue("q")) != ("q", 1, 0):
                await anyio.lowlevel.checkpoint()
        assert got == list(range(10))
    forget_memory_broker(name)


def test_the_native_api_runs_under_anyios_trio_backend_as_it_is() -> None:
    """The same program, by the other door."""
    anyio.run(with_anyio, native.open_broker, backend="trio")


@pytest.mark.parametrize("use_uvloop", [False, True])
def test_the_asyncio_api_runs_under_anyios_other_backend(use_uvloop: bool) -> None:
    """Whose scopes cancel a task again and again, until it has left them."""
    anyio.run(with_anyio, aio.open_broker, backend="asyncio", backend_options={"use_uvloop": use_uvloop})
