"""Declaring an entity once per connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from amqp.exceptions import ChannelError, RecoverableConnectionError

from .surface import connection_of

if TYPE_CHECKING:
    from ..connection import Connection
    from .channel import Channel
    from .contracts import EnsureOptions
    from .exchange import Exchange
    from .queue import Queue

__all__ = ["maybe_declare"]


def maybe_declare(
    entity: Exchange | Queue, channel: Channel | None = None, retry: bool = False, **retry_policy: Unpack[EnsureOptions]
) -> bool:
    """Declare an exchange or queue, unless this connection has declared it already.

    What was declared is compared as a whole: the same name with another type, other arguments or
    other bindings is declared (and perhaps refused).  Entities that may have gone since
    (``can_cache_declaration`` is false) are declared each time.  ``retry`` rides out connection
    errors by ``Connection.ensure``, whose keywords ``retry_policy`` takes.  Returns whether anything
    was sent.

    A queue without name gets the name the broker chose.
    """
    if channel is None:
        if not entity.is_bound:
            raise ChannelError(f"Cannot bind channel {channel} to entity {entity}")
        channel = entity.channel
    connection = connection_of(channel)
    if connection is None:
        raise RecoverableConnectionError("channel disconnected")
    if retry:
        declared: bool = connection.ensure(entity, _declare, **retry_policy)(entity, channel, connection)
        return declared
    return _declare(entity, channel, connection)


def _declare(entity: Exchange | Queue, channel: Channel, connection: Connection) -> bool:
    declared = connection.declared_entities
    if not entity.can_cache_declaration:
        entity.declare(channel=channel)
        return True
    if entity.declaration in declared:
        return False
    entity.declare(channel=channel)
    declared.add(entity.declaration)  # after declaring: a nameless queue has its name now
    return True
