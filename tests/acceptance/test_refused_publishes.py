"""What RabbitMQ refuses by ending a channel or the connection costs the one publish it means, and no other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from amqp import exceptions as amqp_errors

from kombu_actors import Connection, Exchange, Producer, Queue
from kombu_actors.actors.sending import send
from kombu_actors.broker import Broker, QueueSpec, open_broker
from kombu_actors.errors import PublishUnknown
from kombu_actors.protocols.ledger import TRIES_MAX, Entry
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import FaultProxy

PATIENCE = 15.0
GOOD = 50
ROUNDS = 8
"""A link of two connections may hear of the reset on either of them first."""
LIMITS = ["max_message_size = 100000"]


@pytest.fixture
def node(own_rabbitmq: Callable[..., RabbitMQNode]) -> RabbitMQNode:
    """A broker that takes small messages only."""
    return own_rabbitmq(conf=LIMITS)


async def amid_others(broker: Broker, queue: str, **bad: Any) -> BaseException:
    """Publish something bad amid ``GOOD`` good ones, all at once; those are confirmed.  Returns what it raised."""
    raised: list[BaseException] = []

    async def publish_bad() -> None:
        try:
            await broker.publish(**{"body": "bad", "routing_key": queue, **bad})
        except Exception as error:
            raised.append(error)

    await broker.declare(QueueSpec(name=queue))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(GOOD):
                if number == GOOD // 2:
                    nursery.start_soon(publish_bad)
                nursery.start_soon(partial(broker.publish, number, routing_key=queue))
    info = await broker.inspect_queue(queue)
    assert info.messages >= GOOD
    await broker.delete_queue(queue)
    return raised[0]


async def test_larger_than_the_brokers_max_message_size_is_refused(node: RabbitMQNode) -> None:
    """406 once the broker has seen the header; the limit is the broker's, and may change."""
    async with open_broker(node.url()) as broker:
        error = await amid_others(broker, "q", body="x" * 200_000)
        assert isinstance(error, amqp_errors.PreconditionFailed)
        assert "larger than configured max size" in str(error)


async def test_direct_reply_to_without_a_consumer_is_refused(amqp_url: str) -> None:
    """406: the publishing channel of a ``Broker`` consumes nothing."""
    async with open_broker(amqp_url) as broker:
        error = await amid_others(broker, "q", reply_to="amq.rabbitmq.reply-to")
        assert isinstance(error, amqp_errors.PreconditionFailed)
        assert "fast reply consumer does not exist" in str(error)


def test_no_permission_for_the_default_exchange_is_refused_and_publishes_to_others_arrive(node: RabbitMQNode) -> None:
    """403 calls it 'amq.default'; the user may write elsewhere, and does."""
    node.ctl("add_user", "limited", "secret")
    node.ctl("set_permissions", "limited", ".*", "^(allowed|jobs).*", ".*")
    queue = Queue("jobs", Exchange("allowed"), routing_key="k")
    heard = threading.Event()
    raised: list[amqp_errors.AccessRefused] = []

    def again(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except amqp_errors.AccessRefused as error:
            raised.append(error)
            return call()

    options = {"on_refused": lambda refused: heard.set()}
    with Connection(node.url(userid="limited", password="secret"), transport_options=options) as connection:
        producer = Producer(connection)
        producer.publish("first", exchange="allowed", routing_key="k", declare=[queue])
        producer.publish("bad", routing_key="jobs")
        for number in range(GOOD):
            again(partial(producer.publish, number, exchange="allowed", routing_key="k"))
        assert heard.wait(PATIENCE)
        kept = queue(connection)
        again(partial(kept.queue_declare, passive=True))  # answered when all before it have been confirmed
        arrived = []
        while (message := kept.get(no_ack=True)) is not None:
            arrived.append(message.payload)
        assert list(dict.fromkeys(arrived)) == ["first", *range(GOOD)]
    (error,) = raised
    assert "told late" in str(error)


async def test_what_ends_the_whole_connection_is_refused_and_every_channel_goes_on(amqp_url: str) -> None:
    """540: ``immediate`` closes the connection; found within three sessions, though three channels publish."""
    async with open_broker(amqp_url) as broker:
        await broker.declare(QueueSpec(name="q"))
        actor = broker._actor
        channels = [await actor.open_channel() for _ in range(3)]
        raised: list[BaseException] = []

        def entry(body: bytes, immediate: bool = False) -> Entry:
            prepared = actor.transport.prepare(body, exchange="", routing_key="q", properties={})
            if immediate:
                prepared = prepared.but(method=prepared.method[:-1] + b"\x02")
            return Entry(prepared, len(body), "", "q")

        async def publish_bad() -> None:
            try:
                await send(channels[1].publisher, entry(b"bad", immediate=True), PATIENCE)
            except Exception as error:
                raised.append(error)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(GOOD):
                    for channel in channels:
                        nursery.start_soon(send, channel.publisher, entry(b"%d" % number), PATIENCE)
                    if number == GOOD // 2:
                        nursery.start_soon(publish_bad)
        assert actor.session.epochs <= 3
        (error,) = raised
        assert isinstance(error.__cause__, amqp_errors.AMQPNotImplementedError)
        assert (await broker.inspect_queue("q")).messages >= 3 * GOOD
        await broker.publish("after", routing_key="q")


async def test_what_ends_its_session_without_a_word_each_time_is_given_up_as_unknown(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Something on the way resets every connection that carries it: PublishUnknown after six, the others arrive."""
    proxy = fault_proxy(rabbitmq.port)
    proxy.cut_on(b"intolerable")
    async with open_broker(rabbitmq.url(vhost=vhost, port=proxy.port)) as broker:
        error = await amid_others(broker, "q", body="intolerable")
        assert isinstance(error, PublishUnknown)
        assert f"{TRIES_MAX} sessions or channels ended" in str(error)
        assert proxy.cuts == TRIES_MAX


@pytest.mark.parametrize("kind", ["amqp", "redis"])
async def test_a_lone_publish_whose_session_is_lost_is_sent_again_and_not_refused(
    kind: str, request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """A reset says nothing of the message that was under way, however alone it was."""
    if kind == "amqp":
        node: RabbitMQNode = request.getfixturevalue("rabbitmq")
        proxy = fault_proxy(node.port)
        url = node.url(vhost=request.getfixturevalue("vhost"), port=proxy.port)
    else:
        request.getfixturevalue("redis_url")
        server: RedisNode = request.getfixturevalue("redis_server")
        proxy = fault_proxy(server.port)
        url = server.url(port=proxy.port)
    for number in range(ROUNDS):
        async with open_broker(url) as broker:
            await broker.declare(QueueSpec(name="q"))
            await broker.publish("first", routing_key="q")
            proxy.blackhole()
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(broker.publish, number, routing_key="q"))
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    proxy.reset()
                    proxy.heal()
            assert (await broker.inspect_queue("q")).messages == 2 * (number + 1)
