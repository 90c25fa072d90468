"""Brokers of each kind that a test may take away and give back, as a client of the facade meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest

from kombu_actors.transport.memory import forget_memory_broker, memory_broker
from kombu_actors.utils.uuid import uuid
from tests.support.brokers import RabbitMQNode
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy


@attrs.frozen(kw_only=True)
class Outpost:
    """One empty broker."""

    url: str
    cut: Callable[[], object]
    """End every connection without a word; new ones are taken."""
    refuse: Callable[[], object]
    """Take no new connections."""
    heal: Callable[[], object]
    """Undo ``refuse``."""
    connections: Callable[[], int]
    """How many clients are connected."""
    ready: Callable[[str], int]
    """How many messages a queue holds ready."""

    def wait_connections(self, count: int) -> None:
        """Wait until that many clients are connected, as the broker sees it."""
        wait_until(
            lambda: self.connections() == count,
            timeout=10,
            waiting_for=f"{count} connections, not {self.connections()}",
        )

    def wait_ready(self, queue: str, count: int) -> None:
        """Wait until a queue holds that many messages ready, as the broker sees it."""
        wait_until(
            lambda: self.ready(queue) == count,
            timeout=10,
            waiting_for=f"{count} messages in {queue}, not {self.ready(queue)}",
        )


def in_memory(request: pytest.FixtureRequest) -> Iterator[Outpost]:
    """``memory://`` under a name of its own."""
    name = uuid()
    broker = memory_broker(name)
    yield Outpost(
        url=f"memory://{name}",
        cut=broker.cut,
        refuse=broker.refuse,
        heal=lambda: broker.refuse(False),
        connections=lambda: len(broker.links),
        ready=lambda queue: broker.queue_depths()[queue],
    )
    left = len(broker.links)
    forget_memory_broker(name)
    assert not left, f"{left} connections outlived the test"


def on_rabbitmq(request: pytest.FixtureRequest) -> Iterator[Outpost]:
    """A virtual host of its own on the run's RabbitMQ node, behind a proxy of its own."""
    node: RabbitMQNode = request.getfixturevalue("rabbitmq")
    vhost: str = request.getfixturevalue("vhost")
    proxy: FaultProxy = request.getfixturevalue("fault_proxy")(node.port)
    yield Outpost(
        url=node.url(vhost=vhost, port=proxy.port),
        cut=proxy.reset,
        refuse=proxy.refuse,
        heal=proxy.heal,
        connections=lambda: len(node.list_connections(vhost)),
        ready=lambda queue: int(node.list_queues(vhost)[queue]["messages_ready"]),
    )
    proxy.heal()
    node.wait_until_no_connections(vhost)


OUTPOSTS = {"memory": in_memory, "amqp": on_rabbitmq}
