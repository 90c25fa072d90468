"""A reply queue that the broker named has another name after a fault: requests say the new one, replies arrive."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.actors.connection import ConnectionActor
from kombu_actors.actors.topology import FORMER_NAMES
from kombu_actors.broker import Broker, QueueRenamed, QueueSpec
from kombu_actors.errors import ConnectionLost
from kombu_actors.supervisors import Backoff
from tests.support.processes import wait_until

from .native import PATIENCE, payloads, queue, take
from .realms import Realm

HARM = pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])


@HARM
async def test_a_native_reply_to_follows_the_queue_and_the_program_hears_of_it(
    realm: Realm, broker: Broker, harm: str
) -> None:
    """The name that the program read at its start goes on working as ``reply_to``: what the server sees is the
    name of the present session."""
    await queue(broker, "requests")
    info = await broker.declare(QueueSpec(name="", exclusive=True))
    assert info is not None
    name = info.name
    async with (
        realm.open_broker() as server,
        broker.subscribe(name) as replies,
        server.subscribe("requests") as requests,
    ):
        for round in range(3):
            await broker.publish(round, routing_key="requests", reply_to=name)
            with trio.fail_after(PATIENCE):
                while (request := await anext(requests)).payload != round:
                    request.ack()  # of a round before, delivered again
            request.ack()
            assert request.properties["reply_to"] == broker.queue_name(name)
            await server.publish(round, routing_key=request.properties["reply_to"], mandatory=True)
            assert await payloads(replies, 1) == [round]
            async with broker.events() as stream:
                await trio.to_thread.run_sync(getattr(realm, harm))
                with trio.fail_after(PATIENCE):
                    async for event in stream:
                        if isinstance(event, QueueRenamed):
                            break
                assert isinstance(event, QueueRenamed)
                assert event.known == name
                assert event.current == broker.queue_name(name) == broker.queue_name(event.current) != name
            with trio.fail_after(PATIENCE):
                await broker.wait_ready()
                await server.wait_ready()


async def test_a_subscription_by_a_former_name_outlives_that_name(realm: Realm) -> None:
    """However many sessions later: it is to the queue, not to the name that it had when it was subscribed to."""
    at_once = Backoff(first=0.0, base=0.0, maximum=0.0)
    async with realm.open_broker(backoff=at_once) as broker, broker.events(1000) as stream:

        async def rename() -> str:
            broker._actor.session.require_link().kill(ConnectionLost("cut by the test"))
            async for event in stream:
                if isinstance(event, QueueRenamed):
                    return event.current
            raise AssertionError("the events end with the connection")

        info = await broker.declare(QueueSpec(name="", exclusive=True))
        assert info is not None
        with trio.fail_after(3 * PATIENCE):
            former = await rename()
            async with broker.subscribe(former) as replies:
                for _ in range(FORMER_NAMES + 1):
                    await rename()
                    await broker.wait_ready()
                assert broker.queue_name(former) == former  # forgotten
                await broker.publish("m", routing_key=info.name, mandatory=True)
                assert await payloads(replies, 1) == ["m"]


async def test_what_is_published_right_after_a_loss_finds_the_queue_by_its_new_name(
    realm: Realm, broker: Broker
) -> None:
    """It is accepted while the queue still has its former name, and sent when it has another: to the queue itself,
    and to somebody who is to reply to it.  To the former name it would be dropped, and confirmed."""
    info = await broker.declare(QueueSpec(name="", exclusive=True))
    await queue(broker, "requests")
    async with (
        broker.subscribe(info.name, no_ack=True) as messages,
        broker.subscribe("requests", no_ack=True) as requests,
    ):
        for round in range(5):
            broker._actor.session.require_link().kill(ConnectionLost("cut by the test"))
            with trio.fail_after(PATIENCE):
                headers: dict[str, object] = {"round": [round]}
                async with trio.open_nursery() as nursery:
                    send = partial(broker.publish, routing_key=info.name, mandatory=True, headers=headers)
                    nursery.start_soon(send, round)
                    nursery.start_soon(partial(broker.publish, round, routing_key="requests", reply_to=info.name))
                    await trio.testing.wait_all_tasks_blocked()
                    headers["round"] = "changed meanwhile"
                (message,) = await take(messages, 1)
                (request,) = await take(requests, 1)
                assert (message.payload, message.headers["round"], request.payload) == (round, [round], round)
                assert message.routing_key == request.reply_to == broker.queue_name(info.name)
            await broker.wait_ready()


def test_a_program_that_publishes_before_it_hears_of_a_loss_finds_the_queue_by_its_new_name(realm: Realm) -> None:
    """It writes to a connection that is cut, or tries again over the next one: what it publishes arrives."""
    got: list[Any] = []
    with realm.connect() as connection:
        channel = connection.channel()
        reply = Queue("", exclusive=True)(channel)
        reply.declare()
        Consumer(channel, [reply], callbacks=[lambda body, _: got.append(body)], no_ack=True).consume()
        producer = Producer(channel)
        for round in range(8):
            realm.cut_connections()
            producer.publish(round, routing_key=reply.name, retry=True)
            drain_until(connection, lambda: got[-1:] == [round])  # noqa: B023
    assert got == list(range(8))


def age(actor: ConnectionActor, known: str) -> None:
    """As if more sessions had come and gone than are remembered."""
    for session in range(FORMER_NAMES + 1):
        actor.topology.names.renamed(known, f"{known}.{session}")


def test_a_copy_of_a_queue_made_later_follows_its_name_for_ever(realm: Realm) -> None:
    """A bound copy, as each consumer makes one, goes on by the first name."""
    with realm.connect() as connection:
        channel = connection.channel()
        queue = Queue("", exclusive=True)(channel)
        queue.declare()
        first = former = queue.name
        copies = []
        for _ in range(2):
            realm.cut_connections()
            wait_until(lambda: queue.name != former, timeout=PATIENCE, waiting_for="another name")  # noqa: B023
            copies.append(queue(channel))
            age(connection.connect().actor, first)
            former = queue.name
        assert [copy.name for copy in copies] == [queue.name] * 2


def test_a_queue_object_follows_its_name_and_on_declared_tells_it(realm: Realm) -> None:
    """``queue.name``, ``reply_to=queue``, ``reply_to=queue.name`` and the name stored at the start all lead to the
    reply; ``on_declared`` hears of each new name; the consumer knows its queue by all of them."""
    told: list[str] = []
    replies: list[Any] = []
    with realm.connect() as connection, realm.connect() as server:
        channel = connection.channel()
        requests = Queue("requests")(server.channel())
        requests.declare()
        reply = Queue("", exclusive=True, on_declared=lambda name, *_: told.append(name))(channel)
        reply.declare()
        stored = reply.name
        consumer = Consumer(channel, [reply], callbacks=[lambda body, _: replies.append(body)], no_ack=True)
        consumer.consume()
        producer = Producer(channel)
        for round in range(3):
            for number, reply_to in enumerate((reply, reply.name, stored)):
                producer.publish([round, number], routing_key="requests", reply_to=reply_to, retry=True)
                answer(server, requests, [round, number])
                drain_until(connection, lambda: replies[-1:] == [[round, number]])  # noqa: B023
            assert told[-1] == reply.name
            former = reply.name
            realm.cut_connections()
            drain_until(connection, lambda: told[-1] != former)  # noqa: B023
            assert reply.name == told[-1] == consumer.queues[0].name
            assert all(consumer.consuming_from(known) for known in (reply, stored, former))
        assert len(set(told)) == 4
        consumer.consume()  # knows that it does
        assert len(consumer._active) == 1
        consumer.cancel_by_queue(stored)
        assert not consumer.consuming_from(reply)


def answer(server: Connection, requests: Any, expected: Any) -> None:
    """Take a request, and send its body back to where it asks for."""
    deadline = time.monotonic() + PATIENCE
    while (message := requests.get(no_ack=True)) is None or message.payload != expected:
        assert time.monotonic() < deadline, f"no request {expected}"
    Producer(server).publish(message.payload, routing_key=message.properties["reply_to"], retry=True)


def drain_until(connection: Connection, condition: Any) -> None:
    """Drain events until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        connection.drain_events(timeout=max(deadline - time.monotonic(), 0.001))
