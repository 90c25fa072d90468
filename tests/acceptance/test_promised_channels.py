"""A channel is there before the broker has opened it: what is asked of it waits for that."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.errors import DeadlineExceeded
from kombu_actors.message import Message
from tests.support.brokers import RabbitMQNode
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

SLOW = 0.3
"""Seconds that each byte takes in each direction."""


def test_calls_wait_for_a_channel_that_is_being_opened(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """``channel()`` returns at once; what is published and consumed over it meanwhile arrives, in order."""
    proxy = fault_proxy(rabbitmq.port)
    received: list[int] = []

    def receive(body: int, message: Message) -> None:
        received.append(body)
        message.ack()

    with Connection(rabbitmq.url(vhost=vhost, port=proxy.port)) as connection:
        queue = Queue("promised")(connection)
        queue.declare()
        proxy.latency(SLOW)
        began = time.monotonic()
        publishing, consuming = connection.channel(), connection.channel()
        producer = Producer(publishing)
        for number in range(10):
            producer.publish(number, routing_key="promised")
        assert time.monotonic() - began < SLOW, "no answer of the broker has been waited for"
        assert publishing.is_open
        with Consumer(consuming, [queue], callbacks=[receive], auto_declare=False, prefetch_count=3):
            while len(received) < 10:
                connection.drain_events(timeout=5)
        assert received == list(range(10))


def test_calls_on_a_channel_that_is_never_opened_end_by_their_deadline(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Closed meanwhile, it waits for nothing, and is closed at the broker as soon as that hears of it."""
    proxy = fault_proxy(rabbitmq.port)
    options = {"call_timeout": 0.5}
    with Connection(rabbitmq.url(vhost=vhost, port=proxy.port), transport_options=options, heartbeat=60) as connection:
        Queue("promised")(connection).declare()
        proxy.blackhole()
        channel = connection.channel()
        with pytest.raises(DeadlineExceeded):
            channel.basic_get("promised")
        channel.close()
        proxy.heal()
        Queue("promised")(connection).purge()
        wait_until(
            lambda: [row["channels"] for row in rabbitmq.list_connections(vhost)] == [2],
            timeout=5,
            waiting_for="the default channel and that for declarations to be left alone",
        )


def test_channels_are_opened_from_many_threads_at_a_time(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Each has its own number, and takes what its thread asks of it."""
    with Connection(rabbitmq.url(vhost=vhost)) as connection, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> int:
            channel = connection.channel()
            channel.queue_declare(f"q{number}")
            assert channel.basic_get(f"q{number}") is None
            return channel.channel_id

        numbers = list(pool.map(ask, range(100)))
        assert len(set(numbers)) == 100
