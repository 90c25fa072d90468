"""Classes of transports by URL scheme."""

from __future__ import annotations

from .._facade.transports import TRANSPORTS, Transport, resolve_transport

__all__ = ["TRANSPORT_ALIASES", "get_transport_cls", "resolve_transport", "supports_librabbitmq"]

_MODULES = {"amqp": "pyamqp", "redis": "redis", "memory": "memory"}
TRANSPORT_ALIASES = {
    scheme: f"kombu_actors.transport.{_MODULES[kind.driver_type]}:Transport" for scheme, kind in TRANSPORTS.items()
}
"""Where programs find the class of each URL scheme."""


def get_transport_cls(transport: str | type[Transport] | None = None) -> type[Transport] | None:
    """The class for a URL scheme; raises ``KeyError`` when there is none."""
    found: type[Transport] | None = resolve_transport(transport)
    return found


def supports_librabbitmq() -> None:
    """It isn't used here: the runtime speaks AMQP itself."""
