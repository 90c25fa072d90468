"""A consumer never stays deaf: what can't be restored at once is tried again until it can, and nobody else suffers."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from amqp import exceptions as amqp_errors

from kombu_actors.broker import Broker, ExchangeSpec, QueueSpec, Subscription
from kombu_actors.errors import ConnectionLost
from kombu_actors.supervisors import ChildState, ChildView
from kombu_actors.transport._contract import LinkChannel

from .native import PATIENCE, fill, payloads, queue, take, to_exchange, to_queue
from .realms import Realm

AT_ONCE = 1.0
"""Seconds in which what vanished with its channel is back: nothing is in the way."""
IN_TIME = 5.0
"""Seconds from the moment that something can be restored until it is."""


@asynccontextmanager
async def away(broker: Broker) -> AsyncIterator[None]:
    """Cut off for the block; leaving it, wait until the session is up again."""
    session = broker._actor.session
    session.dialler.hold(away)
    session.require_link().kill(ConnectionLost("cut by the test"))
    await until(lambda: session.link is None, broker)
    try:
        yield
    finally:
        session.dialler.let_go(away)
        with trio.fail_after(PATIENCE):
            await broker.wait_ready()


async def until(condition: Callable[[], bool], broker: Broker) -> None:
    """Wait for something that a supervision event brings about."""
    async with broker.events(1000) as stream:
        with trio.fail_after(PATIENCE):
            while not condition():
                await anext(stream)


async def declare_when_free(other: Broker, spec: QueueSpec) -> None:
    """Declare a queue as soon as the broker has noticed that its former owner is gone."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await other.declare(spec)
            except amqp_errors.ResourceLocked:
                await trio.sleep(0.02)
            else:
                return


async def without_consumers(other: Broker, name: str) -> None:
    """Wait until the broker has noticed that a queue's consumers are gone; nobody tells of it."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                if not (await other.inspect_queue(name)).consumers:
                    return
            except amqp_errors.NotFound:
                return
            await trio.sleep(0.02)


def view(broker: Broker, path: str) -> ChildView:
    found = broker.snapshot().find(path)
    assert found is not None, path
    return found


def attempts(broker: Broker, path: str) -> int:
    """Failures in a row of an actor, which may be about to be started first."""
    found = broker.snapshot().find(path)
    return 0 if found is None else found.attempt


async def arrives(broker: Broker, messages: Subscription, within: float, **where: Any) -> None:
    """Messages published from now on arrive; those published before a queue is back are lost."""
    with trio.fail_after(within):
        async with trio.open_nursery() as nursery:

            async def publish() -> None:
                while True:
                    await broker.publish("knock", **where)
                    await trio.sleep(0.01)

            nursery.start_soon(publish)
            message = await anext(messages)
            message.ack()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["auto_delete", "exclusive", "server-named"])
async def test_a_queue_that_vanished_with_its_channel_is_back_within_a_second(
    realm: Realm, broker: Broker, kind: str
) -> None:
    """A bad ack closes the channel, its consumer goes, the queue with it, its bindings, the exchanges that
    only they kept: all there again, and the sibling's channel has not noticed."""
    name = "" if kind == "server-named" else "q"
    exchange = ExchangeSpec(name="x", type="fanout", auto_delete=True)
    await broker.declare(ExchangeSpec(name="in", type="topic"), exchange)
    info = await broker.declare(QueueSpec(name=name, auto_delete=True, exclusive=kind == "exclusive"))
    assert info is not None
    await broker.declare(to_queue(info.name, "x"), to_exchange("x", "in", "order.#"))
    await queue(broker, "sibling")
    async with realm.open_broker() as other, broker.subscribe("sibling"), broker.subscribe(info.name) as messages:
        for _ in range(3):
            await other.publish("m", exchange="in", routing_key="order.new")
            with trio.fail_after(PATIENCE):
                message = await anext(messages)
            wire = cast(LinkChannel, message._wire)
            wire.ack(4711)
            with trio.fail_after(PATIENCE):
                await wire.wait_closed()
            await arrives(other, messages, AT_ONCE, exchange="in", routing_key="order.new")
            while messages._buffer:
                await payloads(messages, 1)
        assert view(broker, "session").epoch == view(broker, "channels/1/channel").epoch == 1


async def test_what_we_bound_to_a_queue_of_a_peers_is_bound_again_when_the_peer_has_it_back(
    realm: Realm, broker: Broker
) -> None:
    """The peer's auto-delete queue went with our channel, and our binding with the queue: a peer that declares it
    again knows nothing of our binding."""
    await broker.declare(ExchangeSpec(name="x", type="fanout"))
    async with realm.open_broker() as peer:
        await queue(peer, "theirs", auto_delete=True)
        await broker.declare(to_queue("theirs", "x"))
        async with broker.subscribe("theirs", tag="t") as messages:
            await peer.publish("m", exchange="x")
            (message,) = await take(messages, 1)
            message._wire.ack(4711)
            await until(lambda: attempts(broker, "channels/1/consumers/t") >= 2, broker)
            await queue(peer, "theirs", auto_delete=True)
            await arrives(peer, messages, IN_TIME, exchange="x")


async def test_a_queue_goes_with_its_consumer_also_while_that_is_being_restored(realm: Realm, broker: Broker) -> None:
    """The auto-delete queue is back already when the program leaves, and its consumer isn't: no broker would end it."""
    for _ in range(5):
        await queue(broker, "q", auto_delete=True)
        async with broker.subscribe("q"), away(broker):
            pass
        async with realm.open_broker() as other:
            await without_consumers(other, "q")  # of the session before
        assert "q" not in realm.depths()


async def test_a_queue_that_was_restored_for_nobody_is_ended_in_the_next_session(realm: Realm, broker: Broker) -> None:
    """It was back, its consumer wasn't, the session was lost again, and then the program left."""
    await queue(broker, "other")
    await queue(broker, "q", auto_delete=True)
    subscription = broker.subscribe("q")
    await subscription.__aenter__()
    async with away(broker):
        pass

    def is_restored() -> bool:
        topology = broker.snapshot().find("topology")
        return topology is not None and topology.epoch == 2 and topology.state is ChildState.READY

    await until(is_restored, broker)
    async with away(broker):
        await subscription.__aexit__(None, None, None)
    with trio.fail_after(PATIENCE):
        await broker.wait_ready()
        await broker.inspect_queue("other")
    async with realm.open_broker() as other:
        await without_consumers(other, "q")
    assert "q" not in realm.depths()


async def test_a_locked_queue_is_tried_again_and_nobody_else_waits_for_it(
    realm: Realm, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """The exclusive queue belongs to somebody else when the session is back: its consumer waits, and says
    why and until when; siblings consume, publishes are confirmed; when the other one goes it is back."""
    await broker.declare(QueueSpec(name="mine", exclusive=True), ExchangeSpec(name="x", type="fanout"))
    await broker.declare(to_queue("mine", "x"))
    await queue(broker, "sibling")
    caplog.set_level(logging.INFO, "kombu_actors")
    async with broker.subscribe("sibling") as sibling, broker.subscribe("mine", tag="t") as messages:
        async with realm.open_broker() as other:
            async with away(broker):
                await declare_when_free(other, QueueSpec(name="mine", exclusive=True))
            await until(lambda: attempts(broker, "channels/2/consumers/t") >= 4, broker)
            waiting = view(broker, "channels/2/consumers/t")
            assert waiting.state is ChildState.BACKING_OFF
            assert waiting.last_failure is not None
            assert waiting.last_failure["type"] == "ResourceLocked"
            assert waiting.next_attempt_in is not None
            degraded = view(broker, "topology")
            assert degraded.state is ChildState.DEGRADED
            assert "queue 'mine'" in (degraded.degraded or "")
            assert [each.what for each in broker.waiting()] == ["queue 'mine'"]
            await fill(broker, "sibling", "m")
            assert await payloads(sibling, 1) == ["m"]
            assert view(broker, "session").epoch == 2
            assert view(broker, "channels/2/channel").epoch == 2
        await arrives(broker, messages, IN_TIME, exchange="x")
        await until(lambda: view(broker, "topology").state is ChildState.READY, broker)
        assert not broker.waiting()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([line for line in said if line.startswith("consumer 't' of queue 'mine' waits")]) == 1
    assert len([line for line in said if line.startswith("queue 'mine' can't be restored")]) == 1


async def test_an_exchange_that_its_peer_has_yet_to_declare_is_waited_for(realm: Realm, broker: Broker) -> None:
    """The peer's exchange is gone when the session is back: the queue is consumed from meanwhile, and
    bound within 5 s of the exchange's return."""
    await queue(broker, "q")
    async with realm.open_broker() as peer, broker.subscribe("q") as messages:
        await peer.declare(ExchangeSpec(name="theirs", type="fanout"))
        await broker.declare(to_queue("q", "theirs"))
        async with away(broker):
            await peer.delete_exchange("theirs")
        assert view(broker, "topology").state is ChildState.DEGRADED
        await fill(broker, "q", "direct")
        assert await payloads(messages, 1) == ["direct"]
        await peer.declare(ExchangeSpec(name="theirs", type="fanout"))
        await arrives(peer, messages, IN_TIME, exchange="theirs")


async def test_a_queue_that_its_peer_has_yet_to_declare_is_waited_for(realm: Realm, broker: Broker) -> None:
    """Somebody else's queue is deleted and, later, declared again: its consumer is back within 5 s, and its
    channel has lived through it."""
    await queue(broker, "ours")
    async with realm.open_broker() as peer, broker.subscribe("ours") as ours:
        await queue(peer, "theirs")
        async with broker.subscribe("theirs", tag="t") as messages:
            await peer.delete_queue("theirs")
            await until(lambda: attempts(broker, "channels/2/consumers/t") >= 4, broker)
            waiting = view(broker, "channels/2/consumers/t")
            assert waiting.state is ChildState.BACKING_OFF
            assert waiting.last_failure is not None
            assert waiting.last_failure["type"] == "NotFound"
            await fill(broker, "ours", "m")
            assert await payloads(ours, 1) == ["m"]
            await queue(peer, "theirs")
            await arrives(peer, messages, IN_TIME, routing_key="theirs")
            assert view(broker, "channels/2/channel").epoch == 1


async def test_a_queue_that_is_consumed_exclusively_by_another_is_waited_for(realm: Realm, broker: Broker) -> None:
    """Whoever took the exclusive consumer's place while it was away keeps it; when he goes, it is back.  Its
    channel is not lost over it again and again."""
    await queue(broker, "q")
    async with broker.subscribe("q", exclusive=True, tag="t") as messages:
        async with realm.open_broker() as other:
            async with away(broker):
                await without_consumers(other, "q")
                rival = other.subscribe("q")
                await rival.__aenter__()
            await until(lambda: attempts(broker, "channels/1/consumers/t") >= 4, broker)
            assert view(broker, "channels/1/channel").epoch == 2
            await rival.__aexit__(None, None, None)
        await arrives(broker, messages, IN_TIME, routing_key="q")
        assert view(broker, "channels/1/channel").epoch == 2


async def test_the_first_subscription_is_refused_to_whoever_asks(realm: Realm, broker: Broker) -> None:
    """Nobody waits for what was never there: the broker's answer is raised, and nothing is left behind."""
    async with realm.open_broker() as other:
        await other.declare(QueueSpec(name="theirs", exclusive=True))
        for name, refusal in (("missing", amqp_errors.NotFound), ("theirs", amqp_errors.ResourceLocked)):
            with trio.fail_after(PATIENCE), pytest.raises(refusal):
                async with broker.subscribe(name):
                    raise AssertionError("subscribed")


async def test_what_was_only_looked_at_is_not_restored(realm: Realm, broker: Broker) -> None:
    """A passive declaration asks; asking again must not create."""
    async with realm.open_broker() as peer:
        await queue(peer, "theirs")
        await broker.inspect_queue("theirs")
        await peer.delete_queue("theirs")
        async with away(broker):
            pass
        with pytest.raises(amqp_errors.NotFound):
            await broker.inspect_queue("theirs")
    assert "theirs" not in realm.depths()


async def test_an_auto_delete_queue_that_was_left_is_not_restored(realm: Realm, broker: Broker) -> None:
    """It went with its last consumer, as declared: nothing brings it back but a declaration."""
    await broker.declare(
        QueueSpec(name="q", auto_delete=True), ExchangeSpec(name="x", type="fanout"), to_queue("q", "x")
    )
    async with broker.subscribe("q"):
        pass
    async with realm.open_broker() as other:
        await without_consumers(other, "q")
    async with away(broker):
        pass
    assert realm.depths() == {}
    assert not broker.waiting()


async def test_what_would_end_the_session_is_not_declared_again_and_again(realm: Realm, broker: Broker) -> None:
    """An exchange of a type that the broker doesn't know any more (a plugin is off): on RabbitMQ asking for it ends
    the session.  It costs one; from then on it waits for whoever declares it, and everything else is restored."""
    await queue(broker, "q")
    broker._actor.topology.exchange_declared(ExchangeSpec(name="odd", type="x-unheard-of"))
    async with broker.subscribe("q") as messages:
        for _ in range(2):
            async with away(broker):
                pass
            await arrives(broker, messages, IN_TIME, routing_key="q")
            while messages._buffer:
                await payloads(messages, 1)
        (waiting,) = broker.waiting()
        assert waiting.what == "exchange 'odd'"
        assert waiting.next_at == math.inf
        assert broker._actor.session.epochs <= 4
        await broker.declare(ExchangeSpec(name="odd", type="fanout"))
        assert not broker.waiting()


async def test_a_declaration_that_ends_the_session_is_raised_and_not_repeated(realm: Realm, broker: Broker) -> None:
    """The broker's answer is its caller's; the session it cost is back, without the declaration."""
    with trio.fail_after(PATIENCE), pytest.raises((amqp_errors.ConnectionError, amqp_errors.ChannelError)) as refused:
        await broker.declare(ExchangeSpec(name="odd", type="x-unheard-of"))
    assert not isinstance(refused.value, ConnectionLost)
    with trio.fail_after(PATIENCE):
        await broker.wait_ready()
        await queue(broker, "q")
    assert broker._actor.session.epochs <= 2


async def test_of_many_queues_the_one_that_is_refused_waits_and_all_others_are_back(
    realm: Realm, broker: Broker
) -> None:
    """They are declared together; a refusal, which closes the channel that they are declared over, costs none of them
    its place or its binding."""
    names = [f"q{number}" for number in range(40)]
    await broker.declare(ExchangeSpec(name="x", type="fanout"))
    for name in names:
        await broker.declare(QueueSpec(name=name, exclusive=True), to_queue(name, "x"))
    async with realm.open_broker() as other:
        async with away(broker):
            await declare_when_free(other, QueueSpec(name="q17", exclusive=True))
        assert [each.what for each in broker.waiting()] == ["queue 'q17'"]
        await broker.publish("m", exchange="x")
        for name in names:
            if name != "q17":
                assert (await broker.inspect_queue(name)).messages == 1
    await until(lambda: not broker.waiting(), broker)
    await broker.inspect_queue("q17")  # answered when its binding has been made, too
    await broker.publish("m", exchange="x")
    assert (await broker.inspect_queue("q17")).messages == 1
