"""P8: no task, thread, descriptor, channel or broker connection outlives its scope."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.message import Message
from kombu_actors.supervisors import Backoff
from tests.support.brokers import RabbitMQNode
from tests.support.leaks import Holdings, no_leaks
from tests.support.proxy import FaultProxy

RECONNECTS = 100
QUICK = Backoff(first=0.0, base=0.01, maximum=0.05)
"""The default slows down a connection that flaps a hundred times, as it should."""


async def test_a_hundred_reconnects_leave_tasks_descriptors_and_channels_as_they_were(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """After 100 sessions: trio tasks, threads, descriptors and the broker's channels equal the start."""
    proxy = fault_proxy(rabbitmq.port)
    url = rabbitmq.url(vhost=vhost, port=proxy.port)
    async with open_broker(url, backoff=QUICK) as broker:
        await broker.declare(QueueSpec(name="kept"))
        async with broker.subscribe("kept") as messages:

            async def round_trip(number: int) -> None:
                await broker.publish({"n": number}, routing_key="kept")
                with trio.fail_after(10):
                    while True:
                        message = await anext(messages)
                        message.ack()
                        if message.payload_as(dict)["n"] == number:
                            return

            def stock() -> tuple[int, int, int, int]:
                gc.collect()
                holdings = Holdings.now()
                return (
                    trio.lowlevel.current_statistics().tasks_living,
                    len([name for _, name in holdings.threads if "FaultProxy" not in name and "Trio" not in name]),
                    len([target for _, target in holdings.descriptors if not target.startswith("socket:")]),
                    sum(c["channels"] for c in rabbitmq.list_connections(vhost)),
                )

            await round_trip(-1)
            before = stock()
            channels_before = len(rabbitmq.list_channels(vhost))
            for number in range(RECONNECTS):
                epoch = _session_epoch(broker)
                async with broker.events() as events:
                    proxy.reset()
                    async for event in events:
                        if event.path == "channels" and type(event).__name__ == "ChildReady":
                            break
                assert _session_epoch(broker) > epoch
                await round_trip(number)
            assert stock() == before
            assert len(rabbitmq.list_channels(vhost)) == channels_before
            assert len(rabbitmq.list_connections(vhost)) == 1


def _session_epoch(broker: Any) -> int:
    session: int = next(child.epoch for child in broker.snapshot().children if child.id == "session")
    return session


def test_a_hundred_connections_one_after_the_other_leave_nothing(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Each `with Connection(...)` takes its thread, its descriptors and its broker connection with it."""
    url = rabbitmq.url(vhost=vhost)
    queue = Queue("passing")
    seen: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        seen.append(body)
        message.ack()

    with no_leaks():
        for number in range(100):
            with Connection(url) as connection:
                Producer(connection).publish({"n": number}, routing_key="passing", declare=[queue])
                with Consumer(connection, [queue], callbacks=[handle]):
                    connection.drain_events(timeout=10)
    assert seen == [{"n": number} for number in range(100)]
    rabbitmq.wait_until_no_connections(vhost)


def test_a_connection_that_was_only_forgotten_is_closed(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Garbage collection ends the tree of a connection that nobody released, after its publishes went out."""
    with no_leaks(grace=10):
        connection = Connection(rabbitmq.url(vhost=vhost))
        Producer(connection).publish("goodbye", routing_key="last", declare=[Queue("last")])
        del connection
        gc.collect()
        rabbitmq.wait_until_no_connections(vhost)
    assert rabbitmq.list_queues(vhost)["last"]["messages"] == 1


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected but by hand."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_forgotten_connection_frees_its_exclusive_queue_when_it_is_collected(
    rabbitmq: RabbitMQNode, vhost: str
) -> None:
    """With its channels, its consumers and their callbacks, which are a circle around it, as kombu's are."""
    url, own = rabbitmq.url(vhost=vhost), Queue("own", exclusive=True, durable=False)

    def use() -> None:
        connection = Connection(url)
        channel = connection.channel()
        channel.on_queue_renamed("own", lambda *_: connection)
        consumer = Consumer(channel, [own], callbacks=[lambda body, message: channel])
        consumer.consume()
        Producer(channel, on_return=lambda *_: consumer).publish("a", routing_key="nowhere", mandatory=True)

    use()
    gc.collect()
    rabbitmq.wait_until_no_connections(vhost)
    with Connection(url) as other:
        own(other.default_channel).declare()
