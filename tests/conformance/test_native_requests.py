"""``Broker.request``: the reply, or why there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from kombu_actors.broker import Broker, Delivered
from kombu_actors.errors import ConnectionLost, DeadlineExceeded, PublishReturned
from tests.support.processes import wait_until

from .native import PATIENCE, queue, ready
from .realms import Realm
from .test_recovery import lose_session

Answer = Callable[[Delivered], Awaitable[object]]


async def double(message: Delivered) -> object:
    """What most servers here do."""
    return 2 * message.payload_as(int)


@asynccontextmanager
async def serving(realm: Realm, answer: Answer = double, concurrency: int = 1) -> AsyncIterator[Broker]:
    """A server of the queue ``service``, over a connection of its own."""

    async def handle(message: Delivered) -> None:
        result = await answer(message)
        assert message.reply_to is not None
        await broker.publish(result, routing_key=message.reply_to, correlation_id=message.correlation_id)

    async with realm.open_broker() as broker, trio.open_nursery() as nursery:
        await queue(broker, "service")
        await nursery.start(partial(broker.consume, "service", handle, concurrency=concurrency))
        yield broker
        nursery.cancel_scope.cancel()


async def test_each_request_gets_its_own_reply(realm: Realm, broker: Broker) -> None:
    """A hundred at a time, answered in another order than asked."""

    async def answer(message: Delivered) -> object:
        for _ in range(message.payload_as(int) % 7):
            await trio.lowlevel.checkpoint()
        return await double(message)

    replies: dict[int, object] = {}

    async def ask(number: int) -> None:
        replies[number] = (await broker.request(number, routing_key="service", timeout=PATIENCE)).payload

    async with serving(realm, answer, concurrency=20), trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(ask, number)
    assert replies == {number: 2 * number for number in range(100)}


async def test_a_request_that_nobody_serves_comes_back(broker: Broker) -> None:
    """At once: there is no such queue."""
    with pytest.raises(PublishReturned):
        await broker.request(1, routing_key="nowhere")


async def test_a_request_that_nobody_answers_ends_by_its_deadline_and_expires(realm: Realm, broker: Broker) -> None:
    """No server finds it later; a reply that comes too late harms nobody."""
    await queue(broker, "service")
    with pytest.raises(DeadlineExceeded, match="the request to 'service' took longer than"):
        await broker.request(1, routing_key="service", timeout=0.2)
    with trio.fail_after(PATIENCE):
        while await ready(broker, "service"):
            """It expires."""
    late = trio.Event()

    async def answer(message: Delivered) -> object:
        if message.payload == 1:
            late.set()
            await trio.sleep(0.3)
        return await double(message)

    async with serving(realm, answer):
        with pytest.raises(DeadlineExceeded):
            await broker.request(1, routing_key="service", timeout=0.25)
        assert late.is_set()
        assert (await broker.request(2, routing_key="service")).payload == 4


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])
async def test_a_request_whose_session_is_lost_says_so_at_once_and_the_next_is_answered(
    realm: Realm, broker: Broker, harm: str
) -> None:
    """Its reply can't come any more: nobody waits for the deadline."""
    begun, finish = trio.Event(), trio.Event()

    async def answer(message: Delivered) -> object:
        if message.payload == 0:
            begun.set()
            await finish.wait()
        return await double(message)

    async with serving(realm, answer, concurrency=5), trio.open_nursery() as nursery:
        await broker.request(1, routing_key="service", timeout=PATIENCE)

        async def ask() -> None:
            with pytest.raises(ConnectionLost, match="whether it was worked on is unknown"):
                await broker.request(0, routing_key="service", timeout=10 * PATIENCE)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as asking:
                asking.start_soon(ask)
                await begun.wait()
                await lose_session(realm, broker, harm)
        finish.set()
        assert (await broker.request(3, routing_key="service", timeout=PATIENCE)).payload == 6
        nursery.cancel_scope.cancel()


async def test_requests_leave_nothing_behind(realm: Realm) -> None:
    """The queue for replies goes with the connection."""
    async with serving(realm) as server:
        async with realm.open_broker() as broker:
            assert (await broker.request(1, routing_key="service")).payload == 2
            assert len(realm.depths()) == 2
        gone = partial(wait_until, lambda: set(realm.depths()) == {"service"}, timeout=PATIENCE, waiting_for="its end")
        await trio.to_thread.run_sync(gone)
        await server.wait_ready()
