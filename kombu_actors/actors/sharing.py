"""What connections to the same broker, in the same run of trio, tell each other: bindings.

A queue belongs to the connection that declared it, which restores it with its bindings.  A program may bind and
unbind it over another connection; then the one that restores it must know.  Of a deletion those bindings are undone
that others had made; whoever declared a queue or an exchange restores it, with the bindings of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

import trio

from .._frozen import Record
from .._values.endpoint import Endpoint
from .topology import Topology

if TYPE_CHECKING:
    from ..transport._contract import Link


class BrokerIdentity(Record):
    """Which broker a session is with, as far as a client can tell."""

    name: str
    """The name that the broker gives itself: a cluster's."""
    virtual_host: str
    prefix: str
    """Of the keys, on Redis."""
    hosts: frozenset[str]
    """What the connection dials."""

    def is_same(self, other: BrokerIdentity) -> bool:
        """Whether both are surely the same.

        Clusters in different places may have the same name; so one host must be dialled by both.
        """
        own, others = (self.name, self.virtual_host, self.prefix), (other.name, other.virtual_host, other.prefix)
        return own == others and not self.hosts.isdisjoint(other.hosts)


def identity(
    link: Link, current: Endpoint, endpoints: Iterable[Endpoint], options: Mapping[str, object]
) -> BrokerIdentity:
    """Which broker a link leads to; ``current`` is the endpoint that was dialled for it."""
    name = str(link.server_properties.get("cluster_name", ""))
    return BrokerIdentity(
        name=name,
        virtual_host=current.virtual_host,
        prefix=str(options.get("global_keyprefix", "")),
        # One that has a name is known by it, through whatever ports and proxies.
        hosts=frozenset(each.host if name else f"{each.host}:{each.port or ''}" for each in endpoints),
    )


_present: trio.lowlevel.RunVar[WeakSet[Neighbour]] = trio.lowlevel.RunVar("neighbours")


class Neighbour:
    """One connection's place among the others."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.broker: BrokerIdentity | None = None

    def arrive(self, broker: BrokerIdentity) -> None:
        """Its session is with this broker."""
        self.broker = broker
        try:
            _present.get().add(self)
        except LookupError:
            _present.set(WeakSet([self]))

    def leave(self) -> None:
        """It is closed."""
        self.broker = None
        _present.get(WeakSet()).discard(self)

    def others(self) -> list[Topology]:
        """The topologies of all other connections to the same broker."""
        broker = self.broker
        return [
            each.topology
            for each in _present.get(WeakSet())
            if each is not self and broker is not None and each.broker is not None and each.broker.is_same(broker)
        ]
