"""What entities, producers and consumers need of a channel and a connection.

The facade's own ``Channel`` and ``Connection`` fulfil it; written down here so that the modules
that use them need not import them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeGuard

from .message import Message

Arguments: TypeAlias = "Mapping[str, Any] | None"
OnMessage: TypeAlias = "Callable[[Message], Any]"


class AnyConnection(Protocol):
    """A facade connection."""

    declared_entities: set[Any]
    connection_errors: tuple[type[BaseException], ...]
    channel_errors: tuple[type[BaseException], ...]

    @property
    def default_channel(self) -> AnyChannel: ...

    def ensure(self, obj: Any, fun: Callable[..., Any], **policy: Any) -> Callable[..., Any]: ...


class AnyChannel(Protocol):
    """A facade channel: AMQP 0-9-1's methods, blocking."""

    channel_id: int | None
    events: Mapping[str, set[Callable[..., Any]]]

    @property
    def connection(self) -> Any:
        """The connection, or something whose ``client`` is the connection; ``None`` once closed."""

    def prepare_message(
        self,
        body: bytes | str,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Arguments = None,
        properties: Arguments = None,
    ) -> Any: ...
    def basic_publish(
        self,
        message: Any,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
    ) -> Any: ...
    def exchange_declare(self, exchange: str, type: str, **options: Any) -> Any: ...
    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> Any: ...
    def exchange_bind(self, destination: str, source: str = "", routing_key: str = "", **options: Any) -> Any: ...
    def exchange_unbind(self, destination: str, source: str = "", routing_key: str = "", **options: Any) -> Any: ...
    def queue_declare(self, queue: str = "", **options: Any) -> tuple[str, int, int]: ...
    def queue_bind(self, queue: str, exchange: str = "", routing_key: str = "", **options: Any) -> Any: ...
    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", **options: Any) -> Any: ...
    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, nowait: bool = False
    ) -> Any: ...
    def queue_purge(self, queue: str, nowait: bool = False) -> int | None: ...
    def prepare_queue_arguments(self, arguments: Mapping[str, Any], **options: Any) -> Any: ...
    def basic_get(self, queue: str, no_ack: bool = False) -> Message | None: ...
    def basic_consume(self, queue: str, **options: Any) -> Any: ...
    def basic_cancel(self, consumer_tag: str) -> Any: ...
    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> Any: ...
    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> Any: ...
    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> Any: ...
    def basic_recover(self, requeue: bool = False) -> Any: ...
    def flow(self, active: bool) -> Any: ...


def is_connection(obj: object) -> TypeGuard[AnyConnection]:
    """Whether ``obj`` is a connection rather than a channel; asks its class, so as not to open one."""
    return hasattr(type(obj), "default_channel")


def maybe_channel(channel: Any) -> Any:
    """The default channel of a connection; a channel is returned as it is."""
    return channel.default_channel if is_connection(channel) else channel


def connection_of(channel: Any) -> Any:
    """The ``Connection`` a channel belongs to, ``None`` once the channel is closed."""
    connection = channel.connection
    return getattr(connection, "client", connection)
