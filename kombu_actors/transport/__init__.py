"""Transports: bytes, sockets and the one edge where foreign errors are translated."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from .._homes import names_from
from ..errors import UnsupportedScheme

if TYPE_CHECKING:
    from ._contract import Transport
    from .aliases import TRANSPORT_ALIASES, get_transport_cls, resolve_transport, supports_librabbitmq

__all__ = [
    "TRANSPORT_ALIASES",
    "get_transport_cls",
    "module_for",
    "resolve_transport",
    "supports_librabbitmq",
    "transport_for",
]

if not TYPE_CHECKING:  # what kombu's programs know of it stands above
    _ABOVE = ("TRANSPORT_ALIASES", "get_transport_cls", "resolve_transport", "supports_librabbitmq")
    __getattr__ = names_from(__name__, {name: f"{__name__}.aliases:{name}" for name in _ABOVE})

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


def module_for(scheme: str) -> str:
    """The name of the module with the transport that answers to a URL scheme.

    Raises:
        UnsupportedScheme: none does.
    """
    try:
        return f"{__name__}.{_TRANSPORTS[scheme][0]}"
    except KeyError:
        raise UnsupportedScheme(
            f"no transport answers to the URL scheme {scheme!r}; known schemes: {', '.join(sorted(_TRANSPORTS))}"
        ) from None


def transport_for(scheme: str, transport_options: Mapping[str, object] | None = None) -> Transport:
    """The transport that answers to a URL scheme, imported when first asked for.

    Raises:
        UnsupportedScheme: none does.
        ValueError: it knows an option, and can't use its value.
    """
    module = import_module(module_for(scheme))
    transport: Transport = getattr(module, _TRANSPORTS[scheme][1])(transport_options or {})
    return transport
