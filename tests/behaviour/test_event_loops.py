"""Connections on a program's event loop: consumers are called by the loop, which does other things meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from kombu_actors import Connection, Queue
from kombu_actors.errors import ConnectionClosed
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

from .libraries import Library

PATIENCE = 10.0
"""Seconds for a message to come."""


@pytest.fixture
def hub(lib: Library) -> Iterator[Any]:
    """A loop, closed after the test."""
    hub = lib.module("asynchronous").Hub()
    yield hub
    hub.close()


def turn_until(hub: Any, done: Callable[[], object]) -> None:
    """Run the loop until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        hub.run_once()


@pytest.fixture(params=["amqp", "redis"])
def evented_url(request: pytest.FixtureRequest) -> str:
    """Where both libraries have something to wait for."""
    found: str = request.getfixturevalue({"amqp": "broker_url", "redis": "redis_url"}[request.param])
    return found


def test_an_event_loop_drains_a_connection(
    lib: Library, connect: Callable[..., Any], evented_url: str, hub: Any, name: str
) -> None:
    """Messages that were there, and those that come while it waits; timers go on."""
    heard: list[Any] = []
    turns: list[int] = []
    connection, sender = connect(evented_url), connect(evented_url)
    queue = lib.Queue(name)(sender.default_channel)
    queue.declare()
    producer = sender.Producer()

    def handle(body: Any, message: Any) -> None:
        heard.append(body)
        message.ack()

    with connection.Consumer([queue], callbacks=[handle]):
        producer.publish(1, routing_key=name)
        connection.register_with_event_loop(hub)
        hub.call_repeatedly(0.01, turns.append, 1)
        turn_until(hub, lambda: heard == [1])
        for number in range(2, 20):
            producer.publish(number, routing_key=name)
        turn_until(hub, lambda: heard == list(range(1, 20)))
        turn_until(hub, lambda: len(turns) > 3)


def test_errors_of_callbacks_come_out_of_the_loop_and_lose_nothing(
    connect: Callable[..., Any], evented_url: str, name: str
) -> None:
    """What waits behind the message is handled by the next turns."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    heard: list[Any] = []
    with Connection(evented_url, transport_options={"confirm_publish": True}) as connection:
        queue = Queue(name)(connection.default_channel)
        queue.declare()

        def handle(body: Any, message: Any) -> None:
            heard.append(body)
            message.ack()
            if body == 1:
                raise ValueError("broken")

        with connection.Consumer([queue], callbacks=[handle]):
            connection.register_with_event_loop(hub)
            for number in (1, 2, 3):
                connection.Producer().publish(number, routing_key=name)
            with pytest.raises(ValueError, match="broken"):
                turn_until(hub, lambda: len(heard) > 1)
            turn_until(hub, lambda: heard == [1, 2, 3])
    assert hub.readers == {}  # released
    hub.close()


def test_the_loop_goes_on_over_a_fault(rabbitmq: RabbitMQNode, shared_vhost: str, name: str) -> None:
    """The runtime connects again; the loop notices nothing but the messages."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    heard: list[Any] = []
    with (
        FaultProxy(rabbitmq.port) as proxy,
        Connection(rabbitmq.url(port=proxy.port, vhost=shared_vhost)) as connection,
    ):
        queue = Queue(name, durable=True)(connection.default_channel)
        queue.declare()

        def handle(body: Any, message: Any) -> None:
            heard.append(body)
            message.ack()

        with connection.Consumer([queue], callbacks=[handle]):
            connection.register_with_event_loop(hub)
            for number in range(3):
                connection.ensure_connection(timeout=PATIENCE)
                connection.Producer().publish(number, routing_key=name, retry=True)
                turn_until(hub, lambda number=number: number in heard)  # type: ignore[misc]  # mypy infers no defaults
                proxy.reset()
    hub.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_loop_alone(evented_url: str, name: str) -> None:
    """It inherits the loop's ``epoll``; closing the inherited connection takes nothing out of that."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    heard: list[Any] = []
    with Connection(evented_url) as connection:

        def handle(body: Any, message: Any) -> None:
            heard.append(body)
            message.ack()

        with connection.Consumer([Queue(name)], callbacks=[handle]):
            connection.register_with_event_loop(hub)
            child = os.fork()
            if not child:
                try:
                    connection.release()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            connection.Producer().publish("still heard", routing_key=name)
            turn_until(hub, lambda: heard)
    assert heard == ["still heard"]
    hub.close()


def test_a_loop_hears_why_nothing_will_come_any_more(name: str) -> None:
    """Once: the connection is not watched any longer then."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    connection = Connection(f"memory://{name}")
    tree = connection.connect()
    connection.register_with_event_loop(hub)
    tree.stop(0)  # as the end of the runtime does, without a word to the connection
    with pytest.raises(ConnectionClosed):
        turn_until(hub, lambda: False)
    assert hub.readers == {}
    hub.close()
    connection.release()


def test_asyncios_loop_will_do(evented_url: str, name: str) -> None:
    """It has ``add_reader`` and ``remove_reader``, too."""
    heard: list[Any] = []

    async def main(connection: Any) -> None:
        came = asyncio.Event()

        def handle(body: Any, message: Any) -> None:
            heard.append(body)
            message.ack()
            came.set()

        with connection.Consumer([Queue(name)], callbacks=[handle]):
            connection.register_with_event_loop(asyncio.get_running_loop())
            connection.Producer().publish("hello", routing_key=name)
            async with asyncio.timeout(PATIENCE):
                await came.wait()

    with Connection(evented_url) as connection:
        asyncio.run(main(connection))
    assert heard == ["hello"]
