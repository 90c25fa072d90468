"""The brokers that the conformance suite runs over: each empty, for one test alone.

A new transport joins with one more function here, and every test of the suite runs over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import attrs
import pytest

from kombu_actors import Connection
from kombu_actors.broker import Broker, open_broker
from kombu_actors.transport.memory import forget_memory_broker, memory_broker
from kombu_actors.utils.uuid import uuid
from tests.support.brokers import RabbitMQNode, RedisNode, SentinelGroup, free_port
from tests.support.certs import Certificates
from tests.support.proxy import FaultProxy


@attrs.frozen(kw_only=True)
class Able:
    """What not every broker can do: where it matters a test states both behaviours.  See docs/capabilities.md."""

    byte_limits: bool = True
    """``x-max-length-bytes``; where it isn't known, declaring such a queue is refused."""
    queue_priorities: bool = True
    """A queue has the priorities that its ``x-max-priority`` says; otherwise every queue has kombu's steps."""
    consumer_priorities: bool = True
    """``x-priority`` of a consumer; where it isn't known it is without effect."""
    single_active: bool = True
    """``x-single-active-consumer``; where it isn't known, declaring such a queue is refused."""
    consumer_prefetch: bool = True
    """``prefetch_count`` holds for each consumer; otherwise for all consumers of a channel together."""
    heartbeats: bool = False
    """The ``heartbeat`` argument is negotiated with the broker, as kombu's ``supports_heartbeats`` says."""


ABLE = {
    "amqp": Able(heartbeats=True),
    "memory": Able(),
    "redis": Able(
        byte_limits=False,
        queue_priorities=False,
        consumer_priorities=False,
        single_active=False,
        consumer_prefetch=False,
    ),
}
"""By the transport's name."""


@attrs.frozen(kw_only=True)
class Realm:
    """One broker as a client sees it (``url`` with its options), and its operator's door, for looking and for harm."""

    url: str
    dead: str
    """A URL of the same kind where nobody answers."""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    """The transport options that it takes to reach it, and to get what AMQP promises."""
    tls: Any = False
    """``open_broker``'s ``tls``, ``Connection``'s ``ssl``."""
    able: Able
    depths: Callable[[], dict[str, int]]
    """How many messages each queue holds ready."""
    connections: Callable[[], int]
    """How many clients are connected."""
    drop_connections: Callable[[], None]
    """End every connection from the broker's side, with a word (``connection.close`` 320) if it has one."""
    cut_connections: Callable[[], None]
    """End every connection without a word, as a reset by a firewall would."""

    def open_broker(self, url: str | Sequence[str] = "", **arguments: Any) -> AbstractAsyncContextManager[Broker]:
        """A native connection to it; ``url`` may name others beside it."""
        return open_broker(url or self.url, transport_options=self.options, tls=self.tls, **arguments)

    def connect(self, url: str | Sequence[str] = "", **arguments: Any) -> Connection:
        """A blocking connection to it, likewise."""
        options = {**self.options, **arguments.pop("transport_options", {})}
        return Connection(url or self.url, transport_options=options, ssl=self.tls, **arguments)


def in_memory(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """``memory://`` under a name of its own."""
    name, nobody = uuid(), uuid()
    broker = memory_broker(name)
    memory_broker(nobody).refuse()
    yield Realm(
        url=f"memory://{name}",
        dead=f"memory://{nobody}",
        able=ABLE["memory"],
        depths=broker.queue_depths,
        connections=lambda: len(broker.links),
        drop_connections=broker.close_link,
        cut_connections=broker.cut,
    )
    left = len(broker.links)
    forget_memory_broker(name)
    forget_memory_broker(nobody)
    assert not left, f"{left} connections outlived the test"


def on_rabbitmq(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """A virtual host of its own on the run's RabbitMQ node, behind a proxy of its own."""
    node: RabbitMQNode = request.getfixturevalue("rabbitmq")
    vhost: str = request.getfixturevalue("vhost")
    proxy: FaultProxy = request.getfixturevalue("fault_proxy")(node.port)
    yield Realm(
        url=node.url(vhost=vhost, port=proxy.port),
        dead=f"amqp://127.0.0.1:{free_port()}",
        able=ABLE["amqp"],
        depths=lambda: {name: queue["messages_ready"] for name, queue in node.list_queues(vhost).items()},
        connections=lambda: len(node.list_connections(vhost)),
        drop_connections=lambda: node.close_all_connections(vhost=vhost),
        cut_connections=proxy.reset,
    )
    node.wait_until_no_connections(vhost)


REDIS_OPTIONS = {
    # Pub/Sub keeps nothing for a queue that nobody listens to.
    "durable_fanout": True,
    # kombu serves the lowest priority first.
    "priority_order": "amqp",
}
DEPTHS = """
local depths = {}
for _, queue in ipairs(redis.call('HKEYS', '_kombu_actors.queues')) do
  local depth = redis.call('LLEN', queue)
  for _, step in ipairs{3, 6, 9} do depth = depth + redis.call('LLEN', queue .. '\\6\\22' .. step) end
  depths[#depths + 1] = {queue, depth}
end
return depths
"""


def links_to(node: RedisNode) -> int:
    """How many hold a lease and are there; the lease of one that was dropped runs on for a while."""
    leases = node.ask("ZRANGE", "_kombu_actors.owners", 0, -1)
    holders = {node.ask("HGET", b"_kombu_actors.owner." + owner, "client") for owner in leases}
    return len(holders & {row["id"].encode() for row in node.clients()})


def redis_realm(node: RedisNode, proxy: FaultProxy, **where: Any) -> Iterator[Realm]:
    """A Redis server, emptied, behind a proxy; ``where`` is how clients find it."""
    node.flush()
    yield Realm(
        able=ABLE["redis"],
        depths=lambda: {name.decode(): depth for name, depth in node.ask("EVAL", DEPTHS, 0)},
        connections=partial(links_to, node),
        drop_connections=partial(node.kill_clients, "normal", "pubsub"),
        cut_connections=proxy.reset,
        **where,
    )
    try:
        node.wait_until_no_clients()
    finally:
        node.kill_clients("normal", "pubsub")


def on_redis(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """The run's Redis server."""
    node: RedisNode = request.getfixturevalue("redis_server")
    proxy: FaultProxy = request.getfixturevalue("fault_proxy")(node.port)
    nobody = f"redis://127.0.0.1:{free_port()}"
    yield from redis_realm(node, proxy, url=node.url(port=proxy.port), dead=nobody, options=REDIS_OPTIONS)


def on_redis_over_tls(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """The same server by its TLS port; its certificate is verified."""
    node: RedisNode = request.getfixturevalue("redis_server")
    certificates: Certificates = request.getfixturevalue("certificates")
    assert node.tls_port is not None
    proxy: FaultProxy = request.getfixturevalue("fault_proxy")(node.tls_port)
    yield from redis_realm(
        node,
        proxy,
        url=node.tls_url(port=proxy.port),
        dead=f"rediss://localhost:{free_port()}",
        options=REDIS_OPTIONS,
        tls={"ca_certs": str(certificates.ca)},
    )


def on_redis_sentinel(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """The run's group of a primary, a replica and three sentinels, who know the primary by its proxy."""
    group: SentinelGroup
    proxy: FaultProxy
    group, proxy = request.getfixturevalue("sentinel_group")
    yield from redis_realm(
        group.primary,
        proxy,
        url=group.url(),
        dead=f"sentinel://127.0.0.1:{free_port()}",
        options={**REDIS_OPTIONS, "master_name": group.service},
    )


REALMS = {
    "memory": in_memory,
    "amqp": on_rabbitmq,
    "redis": on_redis,
    "redis-tls": on_redis_over_tls,
    "redis-sentinel": on_redis_sentinel,
}
