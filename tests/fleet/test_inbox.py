"""What the program has on record is not done again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.fleet import Fleet, FleetMistake, Message, RemoteError, Retry
from tests.conformance.realms import Realm

from .support import PATIENCE, eventually, make_fleet, ready, running, take


class Record:
    """What was done, as a program's database would have it."""

    def __init__(self) -> None:
        self.done = set[tuple[str, str]]()

    @asynccontextmanager
    async def once(self, message: Message) -> AsyncIterator[bool]:
        entry = (message.queue, message.id)
        new = entry not in self.done
        yield new
        self.done.add(entry)


async def test_a_message_that_is_on_record_is_acked_and_not_handled(realm: Realm, broker: Broker) -> None:
    """It is another one of the same id; one that failed is not on record, and is tried again."""
    fleet, record = make_fleet(realm, retry=Retry(delays=(0.05,))), Record()
    fleet.inbox(record.once)
    attempts = list[tuple[str, int]]()
    done = trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: str, message: Message) -> None:
        attempts.append((message.id, message.attempt))
        if message.id == "m2" and message.attempt == 1:
            raise ConnectionError("try again")
        if payload == "last":
            done.set()

    async with running(fleet) as left:
        for id in ("m1", "m1", "m2", "m1"):
            await broker.publish("x", routing_key="jobs", message_id=id)
        await eventually(lambda: ("jobs", "m2") in record.done)
        await broker.publish("x", routing_key="jobs", message_id="m2")
        await broker.publish("last", routing_key="jobs", message_id="m3")
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert attempts == [("m1", 1), ("m2", 1), ("m2", 2), ("m3", 1)]
    count = left.certificate.queues["jobs"]
    assert (count.received, count.acked, count.retried) == (7, 6, 1)
    assert await ready(broker, "jobs") == 0


async def test_a_request_that_is_on_record_is_answered_with_an_error(realm: Realm) -> None:
    """Its answer is not kept: a None in its place would be a lie."""
    fleet, record = make_fleet(realm), Record()
    fleet.inbox(record.once)

    @fleet.consumer("price")
    async def price(sku: str) -> int:
        return 42

    async with running(fleet), fleet.open() as client:
        assert await client.request("price", "tea", message_id="m1") == 42
        with pytest.raises(RemoteError, match="AlreadyHandled: message m1 was handled before, and nobody has kept"):
            await client.request("price", "tea", message_id="m1")


async def test_an_inbox_that_swallows_errors_is_found_out(realm: Realm, broker: Broker) -> None:
    """Else the message would be acked, though its handler has failed."""
    fleet = make_fleet(realm, retry=Retry(delays=()))

    @fleet.inbox
    @asynccontextmanager
    async def once(message: Message) -> AsyncIterator[bool]:
        with suppress(ConnectionError):
            yield True

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None:
        raise ConnectionError("no")

    async with running(fleet):
        await broker.publish("x", routing_key="jobs")
        [dead] = await take(broker, "jobs.dead")
    assert "the inbox swallowed what the handler of queue 'jobs' raised" in str(dead.headers["ka-reason"])


async def undecorated(message: Message) -> AsyncIterator[bool]:
    yield True


async def plain(message: Message) -> bool:
    return True


@pytest.mark.parametrize("once", [undecorated, plain, 3])
def test_what_can_not_be_an_inbox_is_a_mistake(once: Any) -> None:
    """Found where it is registered."""
    register: Callable[..., object] = Fleet("memory://").inbox
    with pytest.raises(FleetMistake, match=r"fleet\.inbox takes a function that makes an async context manager"):
        register(once)
