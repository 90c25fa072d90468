"""Pools of connections, channels and producers.

``connections[connection]`` and ``producers[connection]`` are one pool for each broker *and each way
of connecting to it*: another TLS setting, heartbeat, option or list of alternates is another pool.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

from ._facade.pool_groups import PoolGroup, get_limit, register_group, reset, set_limit, use_global_limit
from ._facade.producer import Producer as _Producer
from .connection import Connection
from .errors import ChannelLimitExceeded, ConnectionLimitExceeded, PublishUnknown
from .resource import PoolOptions, Resource

if TYPE_CHECKING:
    from ._facade.channel import Channel

__all__ = [
    "ChannelPool",
    "ConnectionPool",
    "Connections",
    "PoolGroup",
    "PooledConnection",
    "ProducerPool",
    "Producers",
    "connections",
    "get_limit",
    "producers",
    "register_group",
    "reset",
    "set_limit",
    "use_global_limit",
]

logger = logging.getLogger(__name__)


class PooledConnection(Connection):
    """A connection that belongs to a pool: ``release()`` returns it, ``close()`` really closes it.

    Leaving its ``with`` block returns it, too; when an error leaves the block the connection is
    closed, so that the next borrower does not inherit half-done work (channels, consumers).
    """

    def __init__(self, pool: ConnectionPool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._pool = pool

    def release(self) -> None:
        """Give the connection back to its pool, open."""
        self._pool.release(self)

    def close(self) -> None:
        """Close the connection; it still counts as lent until ``release()``."""
        super().release()

    _close = close

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.release()
            return
        try:
            self._pool.replace(self)
        except PublishUnknown:
            logger.exception("while leaving the connection's block because of another error")

    def clone(self, **kwargs: object) -> Connection:
        """A connection with the same parameters that belongs to no pool."""
        return Connection(**{**self._arguments(), **kwargs})

    def __reduce__(self) -> tuple[object, ...]:
        return self.clone().__reduce__()

    def drop(self, drain: float = 0) -> None:
        """Close the connection under whoever uses it; publishes under way get ``drain`` seconds.

        Raises:
            PublishUnknown: some were not confirmed.
        """
        unconfirmed = self._runs.stop(drain)
        if unconfirmed:
            raise PublishUnknown(
                f"{self.as_uri()} was closed with its pool; the broker had not confirmed {unconfirmed} publishes"
            )

    def renew(self) -> None:
        """Make the next use dial at once, instead of waiting for supervision to, if the session was lost.

        Not while publishes wait in it for that session: they would be lost.
        """
        tree = self._runs.present
        if tree is None or tree.connected:
            return
        if not tree.usable or not tree.unsent:
            self.collect()


class ConnectionPool(Resource[PooledConnection]):
    """Connections with one connection's parameters.  Get it from ``Connection.Pool``."""

    LimitExceeded = ConnectionLimitExceeded
    members = "connections"

    def __init__(self, connection: Connection, limit: int | None = None, **kwargs: Unpack[PoolOptions]) -> None:
        self.connection = connection
        super().__init__(limit, **kwargs)

    def new(self) -> PooledConnection:
        """A connection, not yet connected."""
        return PooledConnection(self, **self.connection._arguments())

    def prepare(self, resource: PooledConnection) -> PooledConnection:
        """One that lost its session starts afresh."""
        resource.renew()
        return resource

    def close_resource(self, resource: PooledConnection) -> None:
        """Close it, giving publishes under way their time to be confirmed."""
        resource.close()

    def collect_resource(self, resource: PooledConnection) -> None:
        """Drop it, without waiting."""
        resource.drop()

    def _collect(self, resource: PooledConnection, deadline: float) -> None:
        resource.drop(max(deadline - time.monotonic(), 0))

    def _lend(self, resource: PooledConnection) -> None:
        """It knows how to release itself."""

    @contextmanager
    def acquire_channel(
        self, block: bool = False, timeout: float | None = None
    ) -> Iterator[tuple[Connection, Channel]]:
        """Borrow a connection for a block, with its default channel."""
        with self.acquire(block, timeout) as connection:
            yield connection, connection.default_channel


if TYPE_CHECKING:

    class PooledChannel(Channel):
        """A channel while it is lent."""

        def release(self) -> None:
            """Return it to its pool."""


class ChannelPool(Resource["PooledChannel"]):
    """Channels of one connection.  Get it from ``Connection.ChannelPool``.

    ``release()`` returns a channel; closing one, or leaving its ``with`` block, closes it and
    makes room for another.
    """

    LimitExceeded = ChannelLimitExceeded
    members = "channels"

    def __init__(self, connection: Connection, limit: int | None = None, **kwargs: Unpack[PoolOptions]) -> None:
        self.connection = connection
        super().__init__(limit, **kwargs)

    def new(self) -> PooledChannel:
        """An open channel."""
        return cast("PooledChannel", self.connection.channel())

    def prepare(self, resource: PooledChannel) -> PooledChannel:
        """In place of one that was closed, or whose connection was, a new one."""
        return resource if self.connection.keeps(resource) else self.new()

    def close_resource(self, resource: PooledChannel) -> None:
        """Close it."""
        type(resource).close(resource)

    def _lend(self, resource: PooledChannel) -> None:
        super()._lend(resource)
        lent: Any = resource
        lent.close = lambda: self.replace(resource)


class ProducerPool(Resource[_Producer]):
    """Producers, each with a connection that it borrows from another pool while it is lent itself."""

    Producer: Callable[..., _Producer] = _Producer
    members = "producers"

    def __init__(
        self,
        connections: Resource[PooledConnection],
        limit: int | None = None,
        preload: int | None = None,
        close_after_fork: bool | None = None,
        *,
        Producer: Callable[..., _Producer] | None = None,
    ) -> None:
        self.connections = connections
        self.Producer = Producer or self.Producer
        super().__init__(limit, preload, close_after_fork)

    def create_producer(self) -> _Producer:
        """A producer with a connection, for which it may wait."""
        return self._make(math.inf)

    def new(self) -> _Producer:
        """A producer with a connection."""
        return self.create_producer()

    def _make(self, deadline: float) -> _Producer:
        connection = None
        try:
            connection = self._borrow(deadline)
            producer: _Producer = self.Producer(connection)
        except BaseException:
            if connection is not None:
                connection.release()
            raise
        return producer

    def _make_ready(self, resource: _Producer, deadline: float) -> _Producer:
        if resource._channel is None:
            connection = None
            try:
                connection = self._borrow(deadline)
                resource.revive(connection)
            except BaseException:
                if connection is not None:
                    connection.release()
                resource._channel = resource.__connection__ = None
                raise
        return self.prepare(resource)

    def _borrow(self, deadline: float) -> PooledConnection:
        if math.isinf(deadline):
            return self.connections.acquire(block=deadline > 0)
        return self.connections.acquire(block=True, timeout=max(deadline - time.monotonic(), 0))

    def release_resource(self, resource: _Producer) -> None:
        """Give its connection back."""
        connection = resource.__connection__
        try:
            resource.channel = None
            if connection is not None:
                connection.release()
        except BaseException:
            if connection is not None:
                connection.release()  # does no harm if it was interrupted after it had been released
            raise
        finally:
            resource.__connection__ = None

    close_resource = release_resource


class Connections(PoolGroup):
    """Connection pools by connection."""

    if TYPE_CHECKING:

        def __getitem__(self, resource: object) -> ConnectionPool: ...

    def create(self, resource: Connection, limit: int | None) -> ConnectionPool:
        """A pool of connections like the one given."""
        return resource.Pool(limit=limit)


class Producers(PoolGroup):
    """Producer pools by connection."""

    if TYPE_CHECKING:

        def __getitem__(self, resource: object) -> ProducerPool: ...

    def create(self, resource: Connection, limit: int | None) -> ProducerPool:
        """A pool of producers that share the pool ``connections`` has for that connection."""
        return ProducerPool(connections[resource], limit=limit)


connections: Final = register_group(Connections(limit=use_global_limit))
"""``connections[connection]``: the pool of connections like that one."""
producers: Final = register_group(Producers(limit=use_global_limit))
"""``producers[connection]``: the pool of producers on such connections."""
