"""Programs on the trio-native API that are to be interrupted, and what is wrong with how one ended.

Each runs until Ctrl-C; ``run_interrupted`` sends that at a random moment and judges the end.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import trio

from kombu_actors.broker import Broker, Delivered, QueueSpec, open_broker
from kombu_actors.supervisors import (
    ActorContext,
    ChildSpec,
    Event,
    Restart,
    Supervisor,
    SupervisorSpec,
    open_supervisor,
    root_cause,
)
from kombu_actors.supervisors.events import ChildFailed, ChildStopped, ChildStuck

STOP_MAX = 2.5
"""Seconds from the interrupt to the end of the program: the goodbye's grace, and some for a busy machine."""
SPREAD = 0.12
"""Seconds within which the interrupt comes: dialling, declaring, working and leaving all take their turn."""

Program = Callable[[str, "Watch"], Awaitable[None]]


class Watch:
    """What one program did."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.stopped: list[str] = []
        self.wrong: list[str] = []

    def hear(self, event: Event) -> None:
        """Listen to supervision: children must be stopped, youngest first, and never crash."""
        if isinstance(event, ChildStuck):
            self.wrong.append(f"{event.path} got stuck")
        elif isinstance(event, ChildStopped):
            self.stopped.append(event.path)
        elif isinstance(event, ChildFailed) and not isinstance(root_cause(event.error), KeyboardInterrupt):
            self.wrong.append(f"{event.path} failed: {event.error!r}")


async def busy(url: str, watch: Watch) -> None:
    """Tasks publish and consume, and so does the main task."""
    async with open_broker(url, listener=watch.hear) as broker:
        await broker.declare(QueueSpec(name="interrupted"))
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(_publish, broker)
            for _ in range(3):
                nursery.start_soon(_consume, broker)
            await _publish(broker)


async def waiting(url: str, watch: Watch) -> None:
    """The main task waits, in a nursery outside of the broker's block."""
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async with open_broker(url, listener=watch.hear) as broker:
                await broker.declare(QueueSpec(name="interrupted"))
                await _publish(broker)

        nursery.start_soon(serve)


async def opening(url: str, watch: Watch) -> None:
    """Connects and disconnects all the time."""
    while True:
        watch.stopped.clear()
        async with open_broker(url, listener=watch.hear):
            await trio.lowlevel.checkpoint()


async def asking(url: str, watch: Watch) -> None:
    """The main task declares, looks, purges, subscribes, leaves, deletes."""
    async with open_broker(url, listener=watch.hear) as broker:
        for number in itertools.count():
            name = f"interrupted-{os.getpid()}-{number % 7}"  # batches run side by side
            await broker.declare(QueueSpec(name=name))
            await broker.publish(number, routing_key=name)
            async with broker.subscribe(name, prefetch=3) as messages:
                (await anext(messages)).ack()
            await broker.inspect_queue(name)
            await broker.purge_queue(name)
            await broker.delete_queue(name)


async def working(url: str, watch: Watch) -> None:
    """Workers handle what is published many at a time, and answer the main task."""
    async with open_broker(url, listener=watch.hear) as broker, trio.open_nursery() as nursery:
        queue = f"working-{uuid4()}"  # the last program's may be locked yet, when it had no time for a goodbye
        await broker.declare(QueueSpec(name=queue, exclusive=True))

        async def handle(message: Delivered) -> None:
            if message.reply_to is not None:
                await broker.publish(1, routing_key=message.reply_to, correlation_id=message.correlation_id)

        await nursery.start(partial(broker.consume, queue, handle, concurrency=5, key=lambda message: message.payload))
        while True:
            await broker.publish_many(range(20), routing_key=queue)
            await broker.request(1, routing_key=queue)
            await broker.get(queue, no_ack=True)


async def tree(url: str, watch: Watch) -> None:
    """Actors that talk to each other, come and go."""

    async def echo(ctx: ActorContext) -> None:
        ctx.ready()
        async for envelope in ctx.mailbox:
            envelope.reply(envelope.message)

    async def short(ctx: ActorContext) -> None:
        ctx.ready()

    async def talk(supervisor: Supervisor, name: str) -> None:
        while True:
            await supervisor.ref(name).ask(1)

    async def churn(supervisor: Supervisor, name: str) -> None:
        while True:
            await supervisor.start_child(ChildSpec(id=name, start=short, restart=Restart.TEMPORARY))
            await trio.lowlevel.checkpoint()

    names = [f"echo{number}" for number in range(8)]
    children = tuple(ChildSpec(id=name, start=echo, mailbox=4) for name in names)
    spec = SupervisorSpec(id="tree", children=children)
    async with open_supervisor(spec, listener=watch.hear) as supervisor:
        await supervisor.wait_ready()
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(talk, supervisor, name)
            for number in range(3):
                nursery.start_soon(churn, supervisor, f"short{number}")
            await talk(supervisor, names[0])


PROGRAMS: dict[str, Program] = {
    "busy": busy,
    "waiting": waiting,
    "opening": opening,
    "asking": asking,
    "working": working,
    "tree": tree,
}


async def _publish(broker: Broker) -> None:
    for number in itertools.count():
        await broker.publish(number, routing_key="interrupted")


async def _consume(broker: Broker) -> None:
    async with broker.subscribe("interrupted") as messages:
        async for message in messages:
            message.ack()


def run_interrupted(name: str, url: str, dice: random.Random, times: int) -> tuple[list[str], float]:
    """Run a program, interrupt it; return what was wrong, and seconds from the first interrupt to the end."""
    watch = Watch()
    delays = [dice.random() * SPREAD, *(dice.random() * 0.01 for _ in range(1, times))]
    sent: list[float] = []
    over = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        watch.began.wait()
        for delay in delays:
            if over.wait(delay):
                return
            sent.append(time.monotonic())
            signal.pthread_kill(main, signal.SIGINT)

    async def begin() -> None:
        watch.began.set()
        await PROGRAMS[name](url, watch)

    thread = threading.Thread(target=interrupt)
    thread.start()
    wrong: list[str] = []
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                trio.run(begin)
            wrong.append("it ended without an exception")
        except BaseException as error:
            bare = name != "waiting"  # there the program's own nursery makes the group
            wrong += _judge_error(error, bare=bare)
        finally:
            took = time.monotonic() - sent[0] if sent else 0.0
            over.set()
            watch.began.set()  # a second interrupt, late, may have kept it from beginning
            thread.join()
    except KeyboardInterrupt:
        # The second came when the program was over.
        took = time.monotonic() - sent[0]
    if took > STOP_MAX:
        wrong.append(f"it ended {took:.1f} s after the interrupt")
    if len(sent) == 1:
        wrong += watch.wrong + _judge_order(watch.stopped)
    return wrong, took


def _judge_error(error: BaseException, *, bare: bool) -> list[str]:
    if isinstance(error, BaseExceptionGroup) and not bare:
        _, rest = error.split(KeyboardInterrupt)
        return [] if rest is None else [f"it ended with noise: {rest!r}"]
    return [] if type(error) is KeyboardInterrupt else [f"it ended with {error!r}, cause {error.__cause__!r}"]


def _judge_order(stopped: list[str]) -> list[str]:
    """Of the fixed children the younger are stopped before the elder."""
    elders = ["deadlines", "session", "topology", *(f"echo{number}" for number in range(8))]
    seen = [elders.index(path) for path in stopped if path in elders]
    return [] if seen == sorted(seen, reverse=True) else [f"it stopped out of order: {stopped}"]
