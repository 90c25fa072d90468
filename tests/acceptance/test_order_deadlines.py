"""Waiting for what was published before is part of a call's deadline, never added to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection
from kombu_actors.errors import DeadlineExceeded
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import FaultProxy

NAME = "order-deadlines"
DEADLINE = 0.5
CALLS: dict[str, Callable[[Any], object]] = {
    "get": lambda channel: channel.basic_get(NAME),
    "count": lambda channel: channel.queue_declare(NAME, passive=True),
    "purge": lambda channel: channel.queue_purge(NAME),
    "delete": lambda channel: channel.queue_delete(NAME),
    "delete an exchange": lambda channel: channel.exchange_delete("x"),
    "qsize": lambda simple: simple.qsize(),
    "unbind": lambda channel: channel.queue_unbind(NAME, "amq.direct", NAME),
}


@pytest.mark.parametrize("broker", ["amqp", "redis"])
def test_publishes_without_a_confirm_add_nothing_to_a_deadline(
    broker: str, request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """The network swallows everything: each call ends by its ``call_timeout`` all the same."""
    node: RabbitMQNode | RedisNode = request.getfixturevalue({"amqp": "rabbitmq", "redis": "redis_server"}[broker])
    proxy = fault_proxy(node.port)
    options = {"call_timeout": DEADLINE, "drain_timeout": 0.1}
    connection = Connection(node.url(port=proxy.port), transport_options=options, heartbeat=60)
    publishing, asking = connection.channel(), connection.channel()
    publishing.queue_declare(NAME)
    simple = connection.SimpleQueue(NAME, queue_opts={"durable": False, "auto_delete": True})
    proxy.blackhole()
    try:
        for name, ask in CALLS.items():
            publishing.basic_publish(publishing.prepare_message(b"m"), routing_key=NAME)
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                ask(simple if name == "qsize" else asking)
            assert time.monotonic() - started < DEADLINE + 0.5, name
    finally:
        proxy.heal()
        connection.release()
