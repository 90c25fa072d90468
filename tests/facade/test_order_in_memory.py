"""Over ``memory://`` a program finds what it published over whichever connection of the process it asks."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import trio

from kombu_actors import Connection, Queue
from kombu_actors.broker import open_broker
from kombu_actors.transport.memory import MemoryBroker, forget_memory_broker, memory_broker
from tests.support.processes import wait_until


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryBroker]:
    """A broker of this test's own."""
    yield memory_broker("order")
    forget_memory_broker("order")


def publish(connection: Connection, number: int) -> None:
    """Over the default channel, none waited for."""
    for _ in range(number):
        connection.Producer().publish("m", routing_key="q")


@pytest.mark.parametrize("number", [1, 50])
def test_one_connection_finds_what_another_published(number: int) -> None:
    """In one process a program can't tell its connections to a broker in that process apart."""
    with Connection("memory://order") as first, Connection("memory://order") as second:
        for _ in range(20):
            Queue("q")(first).declare()
            publish(first, number)
            asked = Queue("q")(second)
            assert asked.queue_declare(passive=True).message_count == number
            publish(first, number)
            assert asked.get(no_ack=True) is not None
            assert asked.purge() == 2 * number - 1
            publish(first, number)
            assert asked.delete() == number


def test_a_native_connection_finds_what_a_blocking_one_published() -> None:
    """Though it lives in another run of trio, in another thread."""

    async def ask(number: int) -> None:
        async with open_broker("memory://order") as broker:
            for _ in range(20):
                await trio.to_thread.run_sync(publish, connection, number)
                assert (await broker.inspect_queue("q")).messages == number
                publish(connection, number)  # from this very thread, too
                assert await broker.purge_queue("q") == 2 * number

    with Connection("memory://order") as connection:
        Queue("q")(connection).declare()
        trio.run(ask, 1)
        trio.run(ask, 50)


def test_a_connection_without_a_session_is_not_waited_for(memory: MemoryBroker) -> None:
    """What it has not handed over is nowhere; who asks over another one is answered at once."""
    with Connection("memory://order") as lost, Connection("memory://order") as asking:
        for connection in (lost, asking):
            Queue("q")(connection).declare()
        memory.block()
        publish(lost, 3)
        memory.refuse()
        memory.cut(link=memory.links[0])
        started = time.monotonic()
        assert Queue("q")(asking).queue_declare(passive=True).message_count < 3
        assert time.monotonic() - started < 1
        memory.refuse(False)
        memory.unblock()
        wait_until(lambda: memory.queue_depths()["q"] >= 3, timeout=5, waiting_for="the publishes")
