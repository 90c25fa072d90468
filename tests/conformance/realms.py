"""The brokers that the conformance suite runs over: each empty, for one test alone.

A new transport joins with one more function here, and every test of the suite runs over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest

from kombu_actors.transport.memory import forget_memory_broker, memory_broker
from kombu_actors.utils.uuid import uuid
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy


@attrs.frozen(kw_only=True)
class Realm:
    """One broker as a client sees it (``url``), and its operator's door, for looking and for harm."""

    url: str
    depths: Callable[[], dict[str, int]]
    """How many messages each queue holds ready."""
    connections: Callable[[], int]
    """How many clients are connected."""
    drop_connections: Callable[[], None]
    """End every connection from the broker's side, with a word (``connection.close`` 320)."""
    cut_connections: Callable[[], None]
    """End every connection without a word, as a reset by a firewall would."""


def in_memory(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """``memory://`` under a name of its own."""
    name = uuid()
    broker = memory_broker(name)
    yield Realm(
        url=f"memory://{name}",
        depths=broker.queue_depths,
        connections=lambda: len(broker.links),
        drop_connections=broker.close_link,
        cut_connections=broker.cut,
    )
    left = len(broker.links)
    forget_memory_broker(name)
    assert not left, f"{left} connections outlived the test"


def on_rabbitmq(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """A virtual host of its own on the run's RabbitMQ node, behind a proxy of its own."""
    node: RabbitMQNode = request.getfixturevalue("rabbitmq")
    vhost: str = request.getfixturevalue("vhost")
    proxy: FaultProxy = request.getfixturevalue("fault_proxy")(node.port)
    yield Realm(
        url=node.url(vhost=vhost, port=proxy.port),
        depths=lambda: {name: queue["messages_ready"] for name, queue in node.list_queues(vhost).items()},
        connections=lambda: len(node.list_connections(vhost)),
        drop_connections=lambda: node.close_all_connections(vhost=vhost),
        cut_connections=proxy.reset,
    )
    node.wait_until_no_connections(vhost)


REALMS = {"memory": in_memory, "amqp": on_rabbitmq}
