"""A channel that dies on Redis is gone before its successor begins, as a broker's answer to its end would have it."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Consumer, Exchange, Message, Queue
from kombu_actors.errors import NotFound
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy
from tests.support.redis_server import RedisNode

_kombu: Any = importlib.import_module("kombu")

IN_TIME = 5.0
"""Seconds from the moment that something can be restored until it is."""
LATENCY = 0.05
"""Seconds for each way: the next channel has asked for the queue long before the ack is answered."""


def test_acks_under_way_when_a_channel_dies_take_no_new_queue_along(
    redis_server: RedisNode, redis_url: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """An auto-delete queue goes with the dead channel's consumer: before it is declared again, and not just after that,
    when nobody would declare it once more."""
    taken: list[Message] = []
    proxy = fault_proxy(redis_server.port)
    with (
        Connection(f"redis://127.0.0.1:{proxy.port}/0") as connection,
        Connection(redis_url) as other,
        _kombu.Connection(redis_url) as stock,
    ):
        exchange = Exchange("x", "topic")
        channel = connection.channel()
        consumer = Consumer(channel, [Queue("q", exchange, "#", auto_delete=True)], on_message=taken.append)
        consumer.consume()
        producer = other.Producer()

        def hear(text: str) -> None:
            deadline = time.monotonic() + IN_TIME
            while all(message.payload != text for message in taken):
                assert time.monotonic() < deadline, "deaf"
                producer.publish(text, exchange="x", routing_key="k")
                stock.Producer().publish("by its name", routing_key="q")  # makes its list, whether declared or not
                # The mistake made over its channel is raised from one of its calls.
                with contextlib.suppress(TimeoutError, *connection.channel_errors):
                    connection.drain_events(timeout=0.05)

        hear("before")
        proxy.latency(LATENCY)
        wire = channel.handle.actor.require_live().wire
        for message in taken:
            message.ack()
        channel.basic_ack(4711)  # never delivered: 406
        wait_until(lambda: wire.closed is not None, timeout=IN_TIME, waiting_for="the channel's death")
        hear("after")
        consumer.cancel()
        with pytest.raises(NotFound):  # so it was declared again, as what it is
            other.channel().queue_declare("q", passive=True)
