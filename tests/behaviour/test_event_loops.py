"""Connections on a program's event loop: consumers are called by the loop, which does other things meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

from kombu_actors import Connection, Queue
from kombu_actors.errors import ConnectionClosed
from tests.support.brokers import RabbitMQNode
from tests.support.leaks import no_leaks
from tests.support.processes import wait_until
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


def test_a_loop_that_is_busy_keeps_nobody_from_hearing_of_the_end(rabbitmq: RabbitMQNode, name: str) -> None:
    """It reads the socket itself while it turns; while a callback blocks, the runtime does, and connects again."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    heard: list[Any] = []
    with FaultProxy(rabbitmq.port) as proxy, Connection(rabbitmq.url(port=proxy.port)) as connection:
        tree = connection.connect()

        def handle(body: Any, message: Any) -> None:
            heard.append(body)
            if heard.count("block") == 1 and body == "block":  # it comes again
                before = tree.sessions
                proxy.reset()
                wait_until(
                    lambda: tree.sessions > before and tree.connected,
                    timeout=PATIENCE,
                    waiting_for="the runtime, which waits for the loop",
                )
            else:
                message.ack()

        with connection.Consumer([Queue(name, durable=True)], callbacks=[handle]):
            connection.register_with_event_loop(hub)
            for body in ("first", "block", "last"):
                connection.ensure_connection(timeout=PATIENCE)
                connection.Producer().publish(body, routing_key=name, retry=True)
                turn_until(hub, lambda body=body: body in heard)  # type: ignore[misc]  # mypy infers no defaults
    assert hub.readers == {}
    hub.close()


@pytest.mark.parametrize("size", [0, 70_000, 300_000])
def test_messages_of_any_size_come_in_order(evented_url: str, name: str, size: int) -> None:
    """Larger than what a loop looks at in one go, and larger than a frame."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    heard: list[tuple[int, int]] = []

    def handle(body: Any, message: Any) -> None:
        heard.append((body[0], len(body[1])))
        message.ack()

    with Connection(evented_url) as connection, Connection(evented_url) as sender:
        with connection.Consumer([Queue(name)], callbacks=[handle], prefetch_count=4):
            connection.register_with_event_loop(hub)
            producer = sender.Producer()
            sent = [(number, 0 if number % 3 else size) for number in range(50)]
            for number, length in sent:
                producer.publish([number, "x" * length], routing_key=name)
            turn_until(hub, lambda: len(heard) == len(sent))
        assert heard == sent
    hub.close()


def test_what_a_loop_had_of_a_connection_goes_with_it(evented_url: str, name: str) -> None:
    """Of each session: also when the loop has forgotten it, and when it watched twice."""
    heard: list[Any] = []

    def handle(body: Any, message: Any) -> None:
        heard.append(body)
        message.ack()

    with no_leaks():
        hub = import_module("kombu_actors.asynchronous").Hub()
        with Connection(evented_url) as connection, connection.Consumer([Queue(name)], callbacks=[handle]):
            for number in range(4):
                connection.register_with_event_loop(hub)
                connection.ensure_connection(timeout=PATIENCE)
                connection.Producer().publish(number, routing_key=name, retry=True)
                turn_until(hub, lambda number=number: number in heard)  # type: ignore[misc]  # mypy infers no defaults
                if number == 1:
                    hub.reset()
        assert hub.readers == {}
        hub.close()
        del hub


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_loop_alone(evented_url: str, name: str) -> None:
    """It inherits the loop's ``epoll``; closing the inherited connection takes nothing out of that.

    Nor does it keep a copy of the socket, which would keep its parent's connection half-alive.
    """
    hub = import_module("kombu_actors.asynchronous").Hub()
    heard: list[Any] = []
    with Connection(evented_url) as connection:

        def handle(body: Any, message: Any) -> None:
            heard.append(body)
            message.ack()

        with connection.Consumer([Queue(name)], callbacks=[handle]):
            connection.register_with_event_loop(hub)
            connection.Producer().publish("heard", routing_key=name)
            turn_until(hub, lambda: heard)
            sockets = _sockets_to(connection)
            child = os.fork()
            if not child:
                left = len(_sockets_among(sockets))
                try:
                    connection.release()
                finally:
                    os._exit(left)
            assert sockets
            assert os.waitpid(child, 0)[1] == 0
            connection.Producer().publish("still heard", routing_key=name)
            turn_until(hub, lambda: len(heard) > 1)
    assert heard == ["heard", "still heard"]
    hub.close()


def _sockets_to(connection: Any) -> set[str]:
    """What the connection's socket is called by the kernel."""
    return {os.readlink(f"/proc/self/fd/{connection._runs.running().sock.fileno()}")}


def _sockets_among(names: set[str]) -> list[int]:
    """This process's descriptors for them."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            if os.readlink(f"/proc/self/fd/{number}") in names:
                found.append(int(number))
    return found


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
