"""The brokers that programs run on: each gives one program an empty place, and can be harmed.

A *yard* owns a server and is used by one process for many programs; a *realm* is one program's place in it.
"""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import kombu_actors
from kombu_actors.transport.memory import forget_memory_broker, memory_broker
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import FaultProxy

from .model import Traits
from .peer import Peer
from .steps import Harm

__all__ = ["TRAITS", "YARDS", "Realm", "Yard"]

TRAITS = {
    "amqp": Traits(
        name="amqp",
        harms={
            Harm.RESET: 16, Harm.FORCED: 4, Harm.REFUSED: 4, Harm.BLACKHOLE: 4, Harm.VANISHED: 4, Harm.ABANDONED: 6,
            Harm.BAD_ACK: 10, Harm.NO_EXCHANGE: 10, Harm.NO_QUEUE: 3, Harm.RESTART: 1,
        },
    ),
    "memory": Traits(
        name="memory",
        harms={
            Harm.RESET: 16, Harm.FORCED: 4, Harm.REFUSED: 4, Harm.BAD_ACK: 10, Harm.NO_EXCHANGE: 10, Harm.NO_QUEUE: 3,
            Harm.RESTART: 4,
        },
        peer_tells=True,
    ),
    "redis": Traits(
        name="redis",
        harms={
            Harm.RESET: 16, Harm.FORCED: 6, Harm.REFUSED: 4, Harm.BLACKHOLE: 4, Harm.VANISHED: 4, Harm.ABANDONED: 2,
            Harm.BAD_ACK: 8, Harm.NO_EXCHANGE: 8, Harm.NO_QUEUE: 3, Harm.RESTART: 2,
        },
        peer_types=("direct", "topic", "fanout"),
        peer_owns_queues=False,
        peer_unbinds=False,
        peer_deletes_exchanges=False,
        peer_deletes_queues=False,
        restart_keeps_all=True,
        keeps_broadcasts=False,
        peer_bindings_outlive_queues=True,
        peer_fanout_by_key=True,
    ),
}  # fmt: skip
"""By transport."""
stock: Any = importlib.import_module("kombu")
"""The other library, which has no types."""
REDIS_OPTIONS = {"call_timeout": 10.0, "lease": 2.0}
"""A lease as short as that has what an abandoned session holds come back within the promised time."""
OPTIONS = {"call_timeout": 10.0}
"""Seconds; a call that takes longer than a recovery may is a fault of ours."""


class Realm(Protocol):
    """One program's place."""

    traits: Traits
    peer: Peer

    def connect(self) -> kombu_actors.Connection:
        """The connection under test."""

    def connect_directly(self) -> Any:
        """A connection that publishes probes, past all that is done to the one under test; confirms publishes."""

    def harm(self, harm: Harm) -> None:
        """Do what is done to the session or the broker; returns when it is done."""

    def heal(self) -> None:
        """End what lasts."""

    def queues(self) -> dict[str, int | None]:
        """The broker's queues, with the number of consumers where it can be asked for."""

    def exchanges(self) -> set[str]:
        """The names of the broker's exchanges."""


class Yard(Protocol):
    """A server for many programs, one at a time."""

    def open_realm(self, name: str) -> AbstractContextManager[Realm]:
        """An empty place."""


# -- memory --------------------------------------------------------------------------------------------


class MemoryRealm:
    """A broker of its own in this process; our connection logs in as ``ours``."""

    traits = TRAITS["memory"]

    def __init__(self, name: str) -> None:
        self.name = name
        self.broker = memory_broker(name)
        self.peer = Peer(kombu_actors, self.connect_directly, recovers=True)

    def connect(self) -> kombu_actors.Connection:
        """See ``Realm``."""
        return kombu_actors.Connection(f"memory://ours:x@{self.name}", transport_options=OPTIONS)

    def connect_directly(self) -> kombu_actors.Connection:
        """See ``Realm``."""
        return kombu_actors.Connection(f"memory://{self.name}", transport_options={"confirm_publish": True})

    def harm(self, harm: Harm) -> None:
        """See ``Realm``."""
        if harm is Harm.RESTART:
            self.broker.restart()
            return
        if harm is Harm.REFUSED:
            self.broker.refuse()
        end = self.broker.close_link if harm is Harm.FORCED else self.broker.cut
        for link in self.broker.links:
            if link.session.user == "ours":
                end(link=link)

    def heal(self) -> None:
        """See ``Realm``."""
        self.broker.refuse(False)

    def queues(self) -> dict[str, int | None]:
        """See ``Realm``."""
        return {name: len(queue.rotation) for name, queue in list(self._topology().queues.items())}

    def exchanges(self) -> set[str]:
        """See ``Realm``."""
        return set(self._topology().exchanges)

    def _topology(self) -> Any:
        return self.broker._hosts["/"].topology


class MemoryYard:
    """Nothing to share."""

    @contextlib.contextmanager
    def open_realm(self, name: str) -> Iterator[Realm]:
        """See ``Yard``."""
        try:
            yield MemoryRealm(name)
        finally:
            forget_memory_broker(name)


# -- RabbitMQ ------------------------------------------------------------------------------------------


class RabbitMQRealm:
    """A virtual host, reached by our connection through a proxy."""

    traits = TRAITS["amqp"]

    def __init__(self, node: RabbitMQNode, vhost: str, proxy: FaultProxy) -> None:
        self.node, self.vhost, self.proxy = node, vhost, proxy
        self.peer = Peer(stock, self.connect_directly)

    def connect(self) -> kombu_actors.Connection:
        """See ``Realm``."""
        url = self.node.url(vhost=self.vhost, port=self.proxy.port)
        return kombu_actors.Connection(url, connect_timeout=2, transport_options=OPTIONS)

    def connect_directly(self) -> Any:
        """See ``Realm``."""
        options = {"confirm_publish": True}
        return stock.Connection(self.node.url(vhost=self.vhost), transport_options=options, connect_timeout=2)

    def harm(self, harm: Harm) -> None:
        """See ``Realm``."""
        if harm is Harm.RESTART:
            self.node.kill9()
            self.node.start()
        elif harm is Harm.FORCED:
            self.node.close_all_connections(vhost=self.vhost)
        else:
            harm_network(self.proxy, harm)

    def heal(self) -> None:
        """See ``Realm``."""
        self.proxy.heal()

    def queues(self) -> dict[str, int | None]:
        """See ``Realm``."""
        return {name: queue["consumers"] for name, queue in self.node.list_queues(self.vhost).items()}

    def exchanges(self) -> set[str]:
        """See ``Realm``."""
        return self.node.list_exchanges(self.vhost)


class RabbitMQYard:
    """A node of its own; a virtual host for each program."""

    def __init__(self, node: RabbitMQNode) -> None:
        self.node = node

    @contextlib.contextmanager
    def open_realm(self, name: str) -> Iterator[Realm]:
        """See ``Yard``."""
        if not self.node.running:
            self.node.start()
        self.node.add_vhost(name)
        try:
            with FaultProxy(self.node.port) as proxy:
                yield RabbitMQRealm(self.node, name, proxy)
        finally:
            self.node.delete_vhost(name)


# -- Redis -----------------------------------------------------------------------------------------------


class RedisRealm:
    """A server, emptied, that writes every command to disk; our connection goes through a proxy."""

    traits = TRAITS["redis"]

    def __init__(self, node: RedisNode, proxy: FaultProxy) -> None:
        self.node, self.proxy = node, proxy
        self.peer = Peer(stock, lambda: stock.Connection(node.url()), shows_exchanges=False)

    def connect(self) -> kombu_actors.Connection:
        """See ``Realm``."""
        url = self.node.url(port=self.proxy.port)
        return kombu_actors.Connection(url, connect_timeout=2, transport_options=REDIS_OPTIONS)

    def connect_directly(self) -> kombu_actors.Connection:
        """See ``Realm``."""
        return kombu_actors.Connection(self.node.url(), transport_options={**REDIS_OPTIONS, "confirm_publish": True})

    def harm(self, harm: Harm) -> None:
        """See ``Realm``."""
        if harm is Harm.RESTART:
            self.node.kill9()
            self.node.start()
        elif harm is Harm.FORCED:
            self.node.kill_clients("normal", "pubsub")
        else:
            harm_network(self.proxy, harm)

    def heal(self) -> None:
        """See ``Realm``."""
        self.proxy.heal()

    def queues(self) -> dict[str, int | None]:
        """See ``Realm``."""
        return {name.decode(): None for name in self.node.ask("HKEYS", "_kombu_actors.queues")}

    def exchanges(self) -> set[str]:
        """See ``Realm``."""
        return {name.decode() for name in self.node.ask("HKEYS", "_kombu_actors.exchanges")}


class RedisYard:
    """A server of its own, emptied for each program."""

    def __init__(self, node: RedisNode) -> None:
        self.node = node

    @contextlib.contextmanager
    def open_realm(self, name: str) -> Iterator[Realm]:
        """See ``Yard``."""
        if not self.node.running:
            self.node.start()
        self.node.flush()
        with FaultProxy(self.node.port) as proxy:
            yield RedisRealm(self.node, proxy)


def harm_network(proxy: FaultProxy, harm: Harm) -> None:
    """What a network does; ``heal`` ends it."""
    if harm is Harm.REFUSED:
        proxy.refuse()
        proxy.reset()
        return
    orders: dict[Harm, Callable[[], None]] = {
        Harm.RESET: proxy.reset,
        Harm.BLACKHOLE: proxy.blackhole,
        Harm.VANISHED: proxy.vanish,
        Harm.ABANDONED: proxy.abandon,
    }
    orders[harm]()


@contextlib.contextmanager
def _memory_yard() -> Iterator[Yard]:
    yield MemoryYard()


@contextlib.contextmanager
def _rabbitmq_yard() -> Iterator[Yard]:
    with tempfile.TemporaryDirectory(prefix="ka-", ignore_cleanup_errors=True) as directory:
        node = RabbitMQNode(Path(directory))
        try:
            node.start()
            yield RabbitMQYard(node)
        finally:
            node.close()


@contextlib.contextmanager
def _redis_yard() -> Iterator[Yard]:
    with tempfile.TemporaryDirectory(prefix="ka-", ignore_cleanup_errors=True) as directory:
        node = RedisNode(Path(directory), durable=True)
        try:
            node.start()
            yield RedisYard(node)
        finally:
            if node.running:
                node.kill9()


YARDS: dict[str, Callable[[], AbstractContextManager[Yard]]] = {
    "memory": _memory_yard,
    "redis": _redis_yard,
    "amqp": _rabbitmq_yard,
}
"""By transport, the quickest first."""
