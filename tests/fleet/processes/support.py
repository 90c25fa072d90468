"""Programs of several processes, as tests run them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.fleet.processes import Processes, Task
from kombu_actors.fleet.program import Happened
from tests.conformance.realms import Realm
from tests.fleet.support import PATIENCE

from .shop import fleet

SHOP = "tests.fleet.processes.shop:fleet"


@attrs.define
class Watched:
    """A program and all that has happened in it."""

    program: Processes
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around ``run``."""
    events: list[Happened] = attrs.field(factory=list)
    changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def wait_for(self, condition: Callable[[Happened], bool], *, count: int = 1) -> list[Happened]:
        """Wait until so many events fit."""
        with trio.fail_after(2 * PATIENCE):
            while len(found := [one for one in self.events if condition(one)]) < count:
                await self.changed.park()
        return found

    async def wait_event(self, name: str, *, count: int = 1, **fields: object) -> Happened:
        """The last of so many events of that name."""

        def fits(event: Happened) -> bool:
            record = {**event.record, "process": event.process}
            return record["event"] == name and all(record.get(key) == value for key, value in fields.items())

        return (await self.wait_for(fits, count=count))[count - 1]

    def named(self, name: str) -> list[Happened]:
        """The events of that name so far."""
        return [event for event in self.events if event.record["event"] == name]

    def pids(self) -> list[int]:
        """Of the processes that serve."""
        return [one.pid for one in self.program.processes() if one.pid is not None]


@asynccontextmanager
async def running(realm: Realm, count: int = 2, **arguments: Any) -> AsyncIterator[Watched]:
    """Run the shop in so many processes, READY, while the block runs; then drain, and look at the certificate."""
    task = Task(fleet=SHOP, url=realm.url, log_level="warning")
    watched = Watched(Processes(fleet.on(realm.url), task, count, **arguments))

    async def listen(task_status: trio.TaskStatus[None]) -> None:
        async with watched.program.events() as stream:
            task_status.started()
            async for event in stream:
                assert isinstance(event, Happened)
                watched.events.append(event)
                watched.changed.unpark_all()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        with watched.scope:
            await watched.program.run(signals=False, task_status=task_status)

    with trio.fail_after(6 * PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(listen)
            async with trio.open_nursery() as inner:
                await inner.start(run)
                try:
                    yield watched
                finally:
                    watched.program.stop("the test is over")
            nursery.cancel_scope.cancel()
    assert watched.program.certificate is not None
    assert watched.program.certificate.balanced, str(watched.program.certificate)


async def declare(broker: Broker, *queues: str) -> None:
    """Queues that nobody consumes."""
    for queue in queues:
        await broker.declare(QueueSpec(name=queue))


async def take_all(broker: Broker, queue: str, key: str, wanted: set[Any]) -> None:
    """Take what handlers tell, until they have told of all of these; of some twice, it may be."""
    missing = set(wanted)
    with trio.fail_after(2 * PATIENCE):
        async with broker.subscribe(queue) as messages:
            while missing:
                message = await anext(messages)
                message.ack()
                missing.discard(message.payload_as(dict)[key])


@attrs.define
class Load:
    """Numbers from 0 on, two hundred a second, until it is cancelled."""

    broker: Broker
    published: int = 0

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Publish; a number that was begun is published and counted."""
        task_status.started()
        while True:
            with trio.CancelScope(shield=True):
                await self.broker.publish(self.published, routing_key="numbers")
                self.published += 1
            await trio.sleep(0.005)
