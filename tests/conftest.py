"""Fixtures that every test may ask for: brokers, certificates, a breakable proxy."""

from __future__ import annotations

import contextlib
import gc
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.brokers import RabbitMQNode, RedisNode, SentinelGroup, start_sentinel_group
from tests.support.certs import Certificates, make_certificates
from tests.support.proxy import FaultProxy
from tests.support.redis_server import PROGRAM

# How long an example takes is the machine's affair: time is measured in benchmarks.
hypothesis.settings.register_profile("kombu_actors", deadline=None)
hypothesis.settings.load_profile("kombu_actors")

_vhost_numbers = itertools.count(1)


def pytest_collection_finish() -> None:
    """Have the collector leave alone what lives until the end, nine thousand tests among it.

    To go through them took 0.3 s each time: a third of the whole run, and pauses in tests of what is in time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Collect garbage after each module: a socket left open fails *its* module, not the end of the run."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def node_directory() -> Iterator[Path]:
    """Where this run's brokers keep their data: private, short (Unix sockets), gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="ka-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def certificates(node_directory: Path) -> Certificates:
    """One set of certificates for the whole run."""
    return make_certificates(node_directory / "certs")


@pytest.fixture(scope="session")
def rabbitmq(node_directory: Path, certificates: Certificates) -> Iterator[RabbitMQNode]:
    """The run's shared RabbitMQ node, with TLS on ``tls_port``.

    Never kill, stop or alarm it: ask for ``own_rabbitmq`` then.
    """
    node = RabbitMQNode(node_directory / "rabbitmq", tls=certificates)
    try:
        node.start()
        yield node
    finally:
        node.close()


@pytest.fixture
def vhost(rabbitmq: RabbitMQNode) -> Iterator[str]:
    """A fresh virtual host on the shared node, for this test alone (guest may do everything on it)."""
    name = f"test-{next(_vhost_numbers)}"
    rabbitmq.add_vhost(name)
    yield name
    rabbitmq.delete_vhost(name)  # its connections and queues go with it


@pytest.fixture
def amqp_url(rabbitmq: RabbitMQNode, vhost: str) -> str:
    """The ``amqp://`` URL of this test's own virtual host."""
    return rabbitmq.url(vhost=vhost)


@pytest.fixture(scope="module")
def own_rabbitmq(
    node_directory: Path,
) -> Iterator[Callable[..., RabbitMQNode]]:
    """Make RabbitMQ nodes that this module's tests may kill: ``own_rabbitmq(conf=[...])``, started.

    Keyword arguments are ``RabbitMQNode``'s.  Asking again with the same arguments gives the
    same node (4 s saved), started if a test left it dead.
    """
    nodes: dict[str, RabbitMQNode] = {}

    def own(**options: Any) -> RabbitMQNode:
        key = repr(sorted(options.items()))
        if key not in nodes:
            base = Path(tempfile.mkdtemp(prefix="own-", dir=node_directory))
            nodes[key] = RabbitMQNode(base, **options)
        node = nodes[key]
        if not node.running:
            node.start()
        return node

    yield own
    for node in nodes.values():
        node.close()


@pytest.fixture(scope="session")
def redis_server(node_directory: Path, certificates: Certificates) -> Iterator[RedisNode]:
    """The run's shared Redis server, with TLS on ``tls_port``.  Never kill it: see ``own_redis``."""
    node = RedisNode(node_directory / "redis", tls=certificates if PROGRAM == "redis-server" else None)
    try:
        node.start()
        yield node
    finally:
        if node.running:
            node.kill9()


@pytest.fixture
def redis_url(redis_server: RedisNode) -> str:
    """The URL of an empty database of the shared Redis server."""
    redis_server.flush()
    return redis_server.url()


@pytest.fixture
def own_redis(node_directory: Path) -> Iterator[Callable[..., RedisNode]]:
    """Make Redis servers that this test may kill: ``own_redis(durable=True)``, started.

    Keyword arguments are ``RedisNode``'s.
    """
    nodes: list[RedisNode] = []

    def own(**options: Any) -> RedisNode:
        node = RedisNode(Path(tempfile.mkdtemp(prefix="redis-", dir=node_directory)), **options)
        nodes.append(node)
        node.start()
        return node

    yield own
    for node in nodes:
        if node.running:
            node.kill9()


@pytest.fixture(scope="session")
def sentinel_group(node_directory: Path) -> Iterator[tuple[SentinelGroup, FaultProxy]]:
    """The run's shared Sentinel group, with the proxy that its sentinels name as the primary.

    Harm to clients is no reason for it to fail over.  Never kill any of it.
    """
    with contextlib.ExitStack() as stack:
        proxies: list[FaultProxy] = []

        def in_front(port: int) -> int:
            proxies.append(stack.enter_context(FaultProxy(port)))
            return proxies[0].port

        group = start_sentinel_group(node_directory / "sentinel", down_after=60, in_front=in_front)
        stack.callback(group.close)
        group.wait_ready()
        yield group, proxies[0]


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[int], FaultProxy]]:
    """Make proxies in front of loopback ports: ``fault_proxy(rabbitmq.port)``."""
    with contextlib.ExitStack() as proxies:
        yield lambda port: proxies.enter_context(FaultProxy(port))
