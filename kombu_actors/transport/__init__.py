"""Transports: bytes, sockets and the one edge where foreign errors are translated."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedScheme

if TYPE_CHECKING:
    from ._contract import Transport

_TRANSPORTS = {
    "amqp": ("amqp", "AMQPTransport"),
    "amqps": ("amqp", "AMQPTransport"),
    "pyamqp": ("amqp", "AMQPTransport"),
    "pyamqps": ("amqp", "AMQPTransport"),
    "memory": ("memory", "MemoryTransport"),
    "redis": ("redis", "RedisTransport"),
    "rediss": ("redis", "RedisTransport"),
    "redis+socket": ("redis", "RedisTransport"),
    "sentinel": ("redis", "RedisTransport"),
}


def transport_for(scheme: str, transport_options: Mapping[str, Any] | None = None) -> Transport:
    """The transport that answers to a URL scheme, imported when first asked for.

    Raises:
        UnsupportedScheme: none does.
        ValueError: it knows an option, and can't use its value.
    """
    try:
        module, name = _TRANSPORTS[scheme]
    except KeyError:
        raise UnsupportedScheme(
            f"no transport answers to the URL scheme {scheme!r}; known schemes: {', '.join(sorted(_TRANSPORTS))}"
        ) from None
    transport: Transport = getattr(import_module(f".{module}", __name__), name)(transport_options or {})
    return transport
