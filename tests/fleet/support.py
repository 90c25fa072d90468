"""Short words for tests of fleets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from kombu_actors.broker import Broker, Delivered
from kombu_actors.fleet import Certificate, Fleet
from tests.conformance.realms import Realm

PATIENCE = 20.0
"""Seconds for anything that a broker on this machine has to do, on a busy machine."""


def make_fleet(realm: Realm, **arguments: Any) -> Fleet:
    """A fleet on a broker of a test."""
    options = {"transport_options": realm.options, **arguments.pop("options", {})}
    return Fleet(realm.url, tls=realm.tls, options=options, **arguments)


class Running:
    """What a block of ``running`` leaves behind."""

    certificate: Certificate


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[Running]:
    """Run a fleet while the block runs; then drain it, and check that its certificate is balanced."""
    left = Running()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        left.certificate = await fleet.run(task_status=task_status)

    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            try:
                yield left
            finally:
                if fleet._run is not None:
                    fleet.drain("the test is over")
    assert left.certificate.balanced, str(left.certificate)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces: figures of a snapshot."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await trio.sleep(0.005)


async def wait_ready(broker: Broker, queue: str, count: int) -> None:
    """Wait until so many messages wait in a queue: what a broker tells only who asks."""
    with trio.fail_after(PATIENCE):
        while await ready(broker, queue) != count:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def take(broker: Broker, queue: str, count: int = 1) -> list[Delivered]:
    """The next messages of a queue, acked."""
    taken = list[Delivered]()
    with trio.fail_after(PATIENCE):
        async with broker.subscribe(queue) as messages:
            while len(taken) < count:
                message = await anext(messages)
                message.ack()
                taken.append(message)
    return taken


async def ready(broker: Broker, queue: str) -> int:
    """How many messages wait in a queue."""
    return (await broker.inspect_queue(queue)).messages
