"""The client: what it publishes is identified and confirmed, what it asks is answered, over faults too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from kombu_actors.broker import Broker, Delivered, QueueSpec
from kombu_actors.errors import DeadlineExceeded, NotFound, PublishReturned
from kombu_actors.fleet._address import Address
from kombu_actors.fleet._headers import error_headers
from kombu_actors.fleet.client import Client, open_client
from kombu_actors.fleet.errors import FleetMistake, RemoteError
from kombu_actors.supervisors import ChildState
from tests.conformance.native import PATIENCE, take
from tests.conformance.realms import Realm
from tests.conformance.test_recovery import lose_session

Answer = Callable[[Delivered], Awaitable[object]]


def address(realm: Realm) -> Address:
    """How a fleet named ``shop`` reaches the realm's broker."""
    return Address(realm.url, "shop", {"transport_options": realm.options, "tls": realm.tls})


@pytest.fixture
async def client(realm: Realm) -> AsyncIterator[Client]:
    """A client of the realm's broker."""
    async with open_client(address(realm)) as client:
        yield client


async def double(message: Delivered) -> object:
    """What most servers here do."""
    return 2 * message.payload_as(int)


@asynccontextmanager
async def serving(realm: Realm, answer: Answer = double) -> AsyncIterator[Broker]:
    """Answers the requests in queue ``double``, ten at a time, as the handlers of a fleet do."""

    async def handle(message: Delivered) -> None:
        assert message.reply_to is not None
        publish = partial(
            broker.publish, routing_key=message.reply_to, correlation_id=message.correlation_id, mandatory=True
        )
        try:
            value = await answer(message)
        except LookupError as error:
            await publish(str(error), headers=error_headers(error))
        else:
            await publish(value)

    async with realm.open_broker() as broker, trio.open_nursery() as nursery:
        await broker.declare(QueueSpec(name="double"))
        await nursery.start(partial(broker.consume, "double", handle, concurrency=10))
        yield broker
        nursery.cancel_scope.cancel()


async def test_a_message_has_an_id_and_arrives_as_it_is(client: Client, broker: Broker) -> None:
    """The id is the caller's or made up; headers and properties are what the caller says."""
    await broker.declare(QueueSpec(name="jobs"))
    made_up = await client.publish("jobs", {"id": 1})
    async with broker.subscribe("jobs") as jobs:
        (first,) = await take(jobs, 1)
        given = await client.publish("jobs", "two", message_id="m-2", headers={"mine": "x"}, priority=3)
        (second,) = await take(jobs, 1)
    assert (first.payload, second.payload) == ({"id": 1}, "two")
    assert first.message_id == made_up
    assert second.message_id == given == "m-2"
    assert second.headers["mine"] == "x"
    assert second.properties["priority"] == 3


async def test_a_message_to_nowhere_comes_back(client: Client) -> None:
    """At once, though it were to wait first: at the end of its delay nobody would hear of it."""
    with pytest.raises(PublishReturned):
        await client.publish("nowhere", 1)
    with pytest.raises(NotFound, match="nowhere"):
        await client.publish("nowhere", 1, delay=1)


async def test_a_delayed_message_comes_later(client: Client, broker: Broker) -> None:
    """A delay of none is none; one for an exchange, or of a wrong length, is a mistake."""
    await broker.declare(QueueSpec(name="jobs"))
    began = trio.current_time()
    await client.publish("jobs", "later", delay=0.3, message_id="m")
    await client.publish("jobs", "now", delay=0)
    async with broker.subscribe("jobs") as jobs:
        (now,) = await take(jobs, 1)
        (later,) = await take(jobs, 1)
    assert (now.payload, later.payload, later.message_id) == ("now", "later", "m")
    assert trio.current_time() - began >= 0.3
    with pytest.raises(FleetMistake, match="can wait for a queue only"):
        await client.publish("jobs", 1, delay=1, exchange="amq.topic")
    with pytest.raises(FleetMistake, match="at most 2"):
        await client.publish("jobs", 1, delay=-1)


async def test_each_request_gets_its_own_reply(realm: Realm, client: Client) -> None:
    """Forty at a time, answered in another order than asked."""

    async def answer(message: Delivered) -> object:
        for _ in range(message.payload_as(int) % 7):
            await trio.lowlevel.checkpoint()
        return await double(message)

    replies: dict[int, object] = {}

    async def ask(number: int) -> None:
        replies[number] = await client.request("double", number, timeout=PATIENCE)

    async with serving(realm, answer), trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(ask, number)
    assert replies == {number: 2 * number for number in range(40)}


async def test_a_failed_request_says_so_by_name_and_text(realm: Realm, client: Client) -> None:
    """The exception itself stays where it was raised."""

    async def answer(message: Delivered) -> object:
        raise KeyError("no such sku")

    async with serving(realm, answer):
        with pytest.raises(RemoteError, match="KeyError: 'no such sku'") as caught:
            await client.request("double", 1, timeout=PATIENCE)
    assert (caught.value.name, caught.value.text) == ("KeyError", "'no such sku'")


async def test_a_request_that_nobody_serves_comes_back_at_once(client: Client) -> None:
    """There is no such queue."""
    with pytest.raises(PublishReturned):
        await client.request("nowhere", 1)


async def test_a_late_reply_is_counted_and_harms_nobody(realm: Realm, client: Client) -> None:
    """The request ends by its deadline; the next one gets its own reply."""
    go = trio.Event()

    async def answer(message: Delivered) -> object:
        if message.payload == 1:
            await go.wait()
        return await double(message)

    async with serving(realm, answer):
        with pytest.raises(DeadlineExceeded, match="no reply to the request to queue 'double' within"):
            await client.request("double", 1, timeout=0.3)
        assert client.late_replies == 0
        go.set()
        with trio.fail_after(PATIENCE):
            while client.late_replies == 0:
                assert await client.request("double", 2) == 4


async def test_a_request_expires_with_its_deadline(client: Client, broker: Broker) -> None:
    """Nobody works on what nobody waits for."""
    await broker.declare(QueueSpec(name="double"))
    with pytest.raises(DeadlineExceeded):
        await client.request("double", 1, timeout=0.2)
    with trio.fail_after(PATIENCE):
        while (await broker.inspect_queue("double")).messages:
            """It expires."""


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])
async def test_a_request_outlives_a_lost_session(realm: Realm, client: Client, harm: str) -> None:
    """Its reply comes in a later session, or waits between two: the queue for replies is there all the time."""
    begun, go = trio.Event(), trio.Event()

    async def answer(message: Delivered) -> object:
        begun.set()
        await go.wait()
        return await double(message)

    answers: list[object] = []

    async def ask() -> None:
        answers.append(await client.request("double", 21, timeout=3 * PATIENCE))

    async with serving(realm, answer) as server, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await begun.wait()
        await lose_session(realm, server, harm)
        go.set()
    assert answers == [42]


async def is_consumed(broker: Broker, queue: str) -> bool:
    """Whether a queue is there, and somebody listens."""
    try:
        return bool((await broker.inspect_queue(queue)).consumers)
    except NotFound:
        return False


async def test_an_operator_deletes_the_queue_for_replies(realm: Realm, client: Client, broker: Broker) -> None:
    """It is declared again; requests go on."""
    async with serving(realm):
        assert await client.request("double", 1) == 2
        name = client._requests.queue_name
        await broker.delete_queue(name)
        with trio.fail_after(PATIENCE):
            while not await is_consumed(broker, name):
                """It is declared again, and consumed from."""
            assert await client.request("double", 2) == 4


async def test_the_queue_for_replies_goes_with_its_client(realm: Realm, broker: Broker) -> None:
    """It is deleted by the client's end; a killed client's expires."""
    async with serving(realm), open_client(address(realm)) as client:
        assert await client.request("double", 1) == 2
        name = client._requests.queue_name
        assert (await broker.inspect_queue(name)).consumers == 1
    with pytest.raises(NotFound):
        await broker.inspect_queue(name)


async def test_an_error_in_the_block_comes_out_as_it_is(realm: Realm) -> None:
    """No group is made of it by the client's own tasks; and a cancelled block ends."""
    with pytest.raises(ZeroDivisionError):
        async with open_client(address(realm)):
            raise ZeroDivisionError
    with trio.move_on_after(PATIENCE) as scope:
        async with open_client(address(realm)) as client:
            scope.cancel()
            await client.publish("nowhere", 1)
    assert scope.cancelled_caught


async def test_the_snapshot_shows_its_connection(client: Client) -> None:
    """The tree that publishes, as of any other connection."""
    assert client.snapshot().state is ChildState.READY
