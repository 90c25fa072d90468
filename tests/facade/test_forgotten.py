"""What a program has forgotten and not released can be collected: the runtime refers to nothing of the program's."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.transport.memory import MemoryBroker, forget_memory_broker, memory_broker
from tests.support.processes import wait_until


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    """One in memory; nothing is collected but by hand."""
    gc.disable()
    yield memory_broker("forgotten")
    gc.enable()
    forget_memory_broker("forgotten")


def hear(connection: Connection, *_: object) -> None:
    """A callback of the program's, which refers to its connection."""


def consume(connection: Connection) -> None:
    channel = connection.channel()
    consumer = Consumer(channel, [Queue("own", exclusive=True)], callbacks=[partial(hear, connection)])
    consumer.consume()
    Producer(channel).publish(1, routing_key="own")
    connection.drain_events(timeout=5)


def hear_of_returns(connection: Connection) -> None:
    producer = Producer(connection, on_return=partial(hear, connection))
    producer.publish(1, routing_key="nowhere", mandatory=True)


def hear_of_cancels(connection: Connection) -> None:
    channel = connection.channel()
    channel.queue_declare("own", exclusive=True)
    channel.basic_consume("own", callback=partial(hear, connection), on_cancel=partial(hear, connection))


def hear_of_names(connection: Connection) -> None:
    Queue(exclusive=True, on_declared=partial(hear, connection))(connection.default_channel).declare()


def watch_sessions(connection: Connection) -> None:
    heard = partial(hear, connection)
    with connection.watch_sessions(heard, heard, heard):
        pass


@pytest.mark.parametrize("use", [consume, hear_of_returns, hear_of_cancels, hear_of_names, watch_sessions])
def test_a_connection_is_collected_with_all_that_was_registered(
    broker: MemoryBroker, use: Callable[[Connection], None]
) -> None:
    """Its channels, consumers and producers, and their callbacks: a circle, as kombu's is, that nothing holds."""

    def forgotten() -> weakref.ref[Connection]:
        connection = Connection(f"memory://{broker.name}")
        use(connection)
        return weakref.ref(connection)

    connection = forgotten()

    def collected() -> bool:
        gc.collect()
        return connection() is None

    wait_until(collected, timeout=5, waiting_for="the connection to go")  # the runtime may be ending a watch yet


def test_a_connection_without_channels_goes_with_its_last_reference(broker: MemoryBroker) -> None:
    """Without the collector, which stock kombu's waits for."""
    connection = Connection(f"memory://{broker.name}")
    connection.connect()
    there = weakref.ref(connection)
    del connection
    assert there() is None
