"""P6, P2: while the broker blocks publishers, every publish ends by its deadline and says what is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import ConnectionBlocked, PublishUnknown
from kombu_actors.message import Message
from tests.support.brokers import RabbitMQNode
from tests.support.history import History
from tests.support.processes import wait_until

DEADLINE = 2.0
LATEST = 2.5
"""Seconds after which a publish with a deadline of 2 s must have ended."""
STOCK = 200
"""Messages that wait in the queue when the alarm goes off."""
DRAIN = 1.0
GOODBYE = 1.5
"""Seconds that closing may take after the drain: a blocked broker doesn't read our goodbye."""
CONFIRMED = {"confirm_publish": True}


def sound_alarm(node: RabbitMQNode) -> None:
    """Set the memory alarm and wait until it has reached every connection."""
    node.set_memory_alarm()

    def all_blocking() -> bool:
        return all(connection["state"] in ("blocking", "blocked") for connection in node.list_connections("alarms"))

    wait_until(all_blocking, timeout=5, waiting_for="the alarm to reach all connections")


@pytest.fixture
def alarmed(own_rabbitmq: Callable[..., RabbitMQNode]) -> Iterator[RabbitMQNode]:
    """A node of our own, whose alarm is off again afterwards."""
    node = own_rabbitmq()
    node.add_vhost("alarms")
    yield node
    node.clear_memory_alarm()
    node.delete_vhost("alarms")


def test_publishes_end_by_their_deadline_during_an_alarm_and_all_flows_after_it(alarmed: RabbitMQNode) -> None:
    """Publishes with a 2 s deadline raise PublishUnknown (written before the broker said that it is blocked)
    or ConnectionBlocked (not sent) in 2.5 s; what was accepted without waiting arrives after the alarm;
    consumers on another connection never stop."""
    url = alarmed.url(vhost="alarms")
    history = History()
    with Connection(url) as source, Connection(url, transport_options=CONFIRMED) as waiting, Connection(url) as other:
        trusting, strict = Producer(source), Producer(waiting)

        def publish(producer: Producer, number: int, **options: Any) -> None:
            history.attempt(number)
            producer.publish(number, routing_key="work", **options)
            history.confirm(number)

        for number in range(STOCK):
            publish(strict, number, declare=[Queue("work")])
        sound_alarm(alarmed)

        outcomes: list[type[Exception]] = []
        for number in range(STOCK, STOCK + 3):
            started = time.monotonic()
            with pytest.raises((ConnectionBlocked, PublishUnknown)) as raised:
                publish(strict, number, timeout=DEADLINE)
            assert time.monotonic() - started <= LATEST
            outcomes.append(raised.type)
        # The broker says that it blocks only in answer to a publish.
        assert outcomes == [PublishUnknown, ConnectionBlocked, ConnectionBlocked]
        for number in range(1000, 1100):
            publish(trusting, number)  # accepted: the library owes their delivery

        def collect(body: Any, message: Message) -> None:
            history.receive(body)
            message.ack()

        with Consumer(other, [Queue("work")], callbacks=[collect], prefetch_count=10):
            while history.report().received < STOCK:
                other.drain_events(timeout=DEADLINE)
            assert history.missing() == set(range(1000, 1100))

            alarmed.clear_memory_alarm()
            for number in range(2000, 2100):
                publish(strict, number, timeout=DEADLINE)
            while history.missing():
                other.drain_events(timeout=5)
    report = history.report()
    report.check(duplicates=0)
    unwritten = set(range(STOCK + 1, STOCK + 3))
    assert not unwritten & set(report.recovered), "ConnectionBlocked promises that nothing was sent"


async def test_a_native_publish_ends_by_its_deadline_and_a_subscription_goes_on(alarmed: RabbitMQNode) -> None:
    """The same in trio: UNKNOWN, then BLOCKED, in 2.5 s each, while another connection is fed and acks."""
    url = alarmed.url(vhost="alarms")
    async with open_broker(url) as publishing, open_broker(url) as consuming:
        await publishing.declare(QueueSpec(name="native"))
        for number in range(STOCK):
            await publishing.publish(number, routing_key="native")
        sound_alarm(alarmed)
        for expected in (PublishUnknown, ConnectionBlocked):
            with trio.fail_after(LATEST), pytest.raises(expected):
                await publishing.publish("blocked", routing_key="native", timeout=DEADLINE)
        async with consuming.subscribe("native", prefetch=10) as messages:
            for number in range(STOCK):
                with trio.fail_after(DEADLINE):
                    message = await anext(messages)
                message.ack()
                assert message.payload == number
            alarmed.clear_memory_alarm()
            await publishing.publish("after", routing_key="native", timeout=DEADLINE)
            received: list[Any] = []
            while received[-1:] != ["after"]:
                with trio.fail_after(DEADLINE):
                    message = await anext(messages)
                message.ack()
                received.append(message.payload)
            assert received in (["blocked", "after"], ["after"])  # the unknown one, at most once, never the other


def test_a_publish_that_waits_out_the_alarm_is_confirmed(alarmed: RabbitMQNode) -> None:
    """A deadline longer than the alarm: the publish succeeds as soon as the alarm is over."""
    url = alarmed.url(vhost="alarms")
    with Connection(url, transport_options=CONFIRMED) as connection:
        producer = Producer(connection)
        producer.publish("before", routing_key="patient", declare=[Queue("patient")])
        sound_alarm(alarmed)
        with pytest.raises(PublishUnknown):
            producer.publish("unknown", routing_key="patient", timeout=0.5)
        clear = threading.Timer(1.0, alarmed.clear_memory_alarm)
        clear.start()
        started = time.monotonic()
        producer.publish("during", routing_key="patient", timeout=10)
        assert 0.5 < time.monotonic() - started < 1.0 + DEADLINE
        clear.join()
    assert alarmed.list_queues("alarms")["patient"]["messages"] == 3


def test_release_during_an_alarm_ends_by_its_deadlines_and_tells_what_is_unconfirmed(alarmed: RabbitMQNode) -> None:
    """drain_timeout=1: release() ends 1 s and a short goodbye later, and names the 50 publishes it gave up;
    a connection that owes nothing closes as fast."""
    url = alarmed.url(vhost="alarms")
    connection = Connection(url, transport_options={"drain_timeout": DRAIN})
    producer = Producer(connection)
    producer.publish("before", routing_key="left", declare=[Queue("left")])
    idle = Connection(url, transport_options={"drain_timeout": DRAIN})
    idle.connect()
    sound_alarm(alarmed)
    for number in range(50):
        producer.publish(number, routing_key="left")
    started = time.monotonic()
    with pytest.raises(PublishUnknown, match=r"\b50 publishes"):
        connection.release()
    assert DRAIN <= time.monotonic() - started <= DRAIN + GOODBYE
    started = time.monotonic()
    idle.release()
    assert time.monotonic() - started <= GOODBYE
    alarmed.clear_memory_alarm()
    alarmed.wait_until_no_connections("alarms")
