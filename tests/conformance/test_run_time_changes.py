"""What a program did at run time, over whichever connection, is restored as it was last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest
import trio

from kombu_actors import Connection, Consumer, Message, Queue
from kombu_actors.broker import Broker, ExchangeSpec, QueueSpec, open_broker
from kombu_actors.common import Broadcast
from kombu_actors.errors import ConnectionLost
from kombu_actors.mixins import ConsumerMixin
from kombu_actors.utils.uuid import uuid

from .native import PATIENCE, payloads, take, to_queue
from .realms import Realm


async def lose_session(broker: Broker) -> None:
    """Cut this connection, and no other; return when its topology holds again and its consumers consume."""
    session = broker._actor.session
    epochs = session.epochs
    async with broker.events(1000) as stream:
        session.require_link().kill(ConnectionLost("cut by the test"))
        with trio.fail_after(PATIENCE):
            while session.epochs == epochs or not broker._actor.supervisor.snapshot().find("channels/1/consumers"):
                await anext(stream)
            await broker.wait_ready()
            await broker._actor.supervisor.wait_ready("channels/1/consumers")


async def test_a_binding_made_over_another_connection_comes_back_with_its_queue(realm: Realm, broker: Broker) -> None:
    """The queue goes with its connection; whoever declared it binds it again by all its keys, also by the
    one that was bound over another connection, which has noticed nothing."""
    await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="q", auto_delete=True), to_queue("q", "x", "a"))
    async with realm.open_broker() as other, broker.subscribe("q") as messages:
        await other.declare(to_queue("q", "x", "b"))
        for _ in range(2):
            await lose_session(broker)
            for key in ("a", "b"):
                await other.publish(key, exchange="x", routing_key=key, mandatory=True)
            assert sorted(await payloads(messages, 2)) == ["a", "b"]


async def test_a_binding_removed_over_another_connection_stays_removed(realm: Realm, broker: Broker) -> None:
    """The connection that restores the queue knows."""
    await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="q", auto_delete=True))
    await broker.declare(to_queue("q", "x", "a"), to_queue("q", "x", "b"))
    async with realm.open_broker() as other, broker.subscribe("q") as messages:
        await other.unbind(to_queue("q", "x", "a"))
        await lose_session(broker)
        for key in ("a", "b"):
            await other.publish(key, exchange="x", routing_key=key)
        assert await payloads(messages, 1) == ["b"]
        assert not messages._buffer


async def test_another_broker_is_another_broker(realm: Realm, broker: Broker) -> None:
    """The same names on another broker concern nobody here."""
    other_url = f"memory://{uuid()}"
    await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="q"))
    async with open_broker(other_url) as other:
        await other.declare(ExchangeSpec(name="x"), QueueSpec(name="q"), to_queue("q", "x", "a"))
    assert not broker._actor.topology.bindings


async def test_a_consumer_that_was_cancelled_stays_cancelled(realm: Realm, broker: Broker) -> None:
    """And one that was added later comes back."""
    await broker.declare(QueueSpec(name="q"), QueueSpec(name="late"))
    async with broker.subscribe("q") as messages:
        async with broker.subscribe("q"):
            pass
        async with broker.subscribe("late") as late:
            await lose_session(broker)
            await broker.publish("m", routing_key="late")
            assert [message.payload for message in await take(late, 1)] == ["m"]
            assert (await broker.inspect_queue("q")).consumers == 1
        await broker.publish("m", routing_key="q")
        assert await payloads(messages, 1) == ["m"]


logger = logging.getLogger(__name__)


class Announcer(ConsumerMixin):
    """Says to itself that it is there, whenever it consumes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.announced = 0
        self.channel: Any = None
        self.heard: SimpleQueue[Any] = SimpleQueue()
        self.calls: list[str] = []

    def get_consumers(self, Consumer: Callable[..., Consumer], channel: Any) -> list[Consumer]:
        self.calls.append("get_consumers")
        self.channel = channel
        callbacks = [self.hear]
        return [Consumer([Broadcast("all")], callbacks=callbacks), Consumer([Queue("work")], callbacks=callbacks)]

    def hear(self, body: Any, message: Message) -> None:
        message.ack_log_error(logger, self.connection.connection_errors)
        self.heard.put(body)

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        self.announced += 1
        with connection.clone() as other:
            producer = other.Producer()
            producer.publish(["all", self.announced], exchange="all")
            producer.publish(["work", self.announced], routing_key="work")

    def on_consume_end(self, connection: Any, channel: Any) -> None:
        self.calls.append("end")


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections", "bad ack"])
def test_on_consume_ready_is_called_after_each_recovery(realm: Realm, harm: str) -> None:
    """When all consumers are subscribed again: what is published from then on is heard.  The consumers are
    the same; nothing else has begun anew."""
    worker = Announcer(realm.connect())
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for round in range(1, 4):
            awaited = {("all", round), ("work", round)}
            while awaited:
                awaited.discard(tuple(worker.heard.get(timeout=PATIENCE)))
            if harm == "bad ack":
                worker.channel.basic_ack(4711)
            else:
                getattr(realm, harm)()
    finally:
        worker.should_stop = True
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert worker.calls == ["get_consumers", "end"]
