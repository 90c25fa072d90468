"""A channel's exchanges, queues and bindings, in kombu's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .._bridge.feeds import Notice
from .._values.model import Arguments, BindingKind, BindingSpec, ExchangeSpec, QueueSpec
from .channel_calls import ChannelCalls

QUEUE_ARGUMENTS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "expires": ("x-expires", lambda seconds: int(seconds * 1000)),
    "message_ttl": ("x-message-ttl", lambda seconds: int(seconds * 1000)),
    "max_length": ("x-max-length", int),
    "max_length_bytes": ("x-max-length-bytes", int),
    "max_priority": ("x-max-priority", int),
}
"""kombu's queue options in seconds -> RabbitMQ's arguments in milliseconds."""


class queue_declare_ok_t(NamedTuple):
    """What ``queue_declare`` returns."""

    queue: str
    message_count: int
    consumer_count: int


class ChannelTopology(ChannelCalls):
    """Declares and deletes; what was declared is declared again in every new session.

    ``nowait`` is accepted everywhere and waits all the same: an answer nobody reads is an error nobody sees.
    """

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Arguments | None = None,
        internal: bool = False,
    ) -> None:
        """Declare an exchange and remember it: it is declared again in every new session.

        ``nowait`` is accepted and waits all the same: an answer nobody reads is an error nobody sees.
        """
        spec = ExchangeSpec(
            name=exchange, type=type, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
        )
        self._call(self._topology_calls.declare_exchange, spec, passive=passive)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete an exchange and forget it."""
        self._call_after_publishes(self._topology_calls.delete_exchange, exchange, if_unused=if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """Bind an exchange to another one."""
        binding = _binding(BindingKind.EXCHANGE, destination, source, routing_key, arguments)
        self._call_after_publishes(self._topology_calls.bind, binding)

    def exchange_unbind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """Undo ``exchange_bind``."""
        self._call_after_publishes(
            self._topology_calls.unbind, _binding(BindingKind.EXCHANGE, destination, source, routing_key, arguments)
        )

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Arguments | None = None,
    ) -> queue_declare_ok_t:
        """Declare a queue and remember it; without a name the broker chooses one, anew in each session."""
        spec = QueueSpec(name=queue, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments)
        info = self._call_after_publishes(self._topology_calls.declare_queue, spec, passive=passive)
        return queue_declare_ok_t(info.name, info.messages, info.consumers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """Bind a queue to an exchange."""
        binding = _binding(BindingKind.QUEUE, queue, exchange, routing_key, arguments)
        self._call_after_publishes(self._topology_calls.bind, binding)

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        nowait: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """Undo ``queue_bind``."""
        self._call_after_publishes(
            self._topology_calls.unbind, _binding(BindingKind.QUEUE, queue, exchange, routing_key, arguments)
        )

    def queue_delete(
        self, queue: str = "", if_unused: bool = False, if_empty: bool = False, nowait: bool = False
    ) -> int:
        """Delete a queue and forget it; returns how many messages went with it."""
        return self._call_after_publishes(
            self._topology_calls.delete_queue, queue, if_unused=if_unused, if_empty=if_empty
        )

    def queue_purge(self, queue: str = "", nowait: bool = False) -> int:
        """Remove the ready messages of a queue; returns how many there were."""
        return self._call_after_publishes(self._topology_calls.purge_queue, queue)

    @staticmethod
    def prepare_queue_arguments(arguments: Mapping[str, object] | None, **options: object) -> dict[str, Any]:
        """Translate kombu's queue options to the broker's arguments."""
        prepared = dict(arguments or {})
        for option, value in options.items():
            if value is not None:
                name, convert = QUEUE_ARGUMENTS[option]
                prepared[name] = convert(value)
        return prepared

    def current_name(self, queue: str) -> str:
        """The name that a queue has now, which the broker may have named anew."""
        return self.handle.names.current(queue)

    def known_name(self, queue: str) -> str:
        """The first name of a queue that the broker has named anew."""
        return self.handle.names.known(queue)

    def on_queue_renamed(self, queue: str, fn: Callable[[str, int, int], object]) -> None:
        """Have ``fn(name, 0, 0)`` called where events are drained, whenever the broker gives a queue another name."""
        self.handle.report_names(queue, Notice(fn))


def _binding(
    kind: BindingKind, destination: str, source: str, routing_key: str | None, arguments: Arguments | None
) -> BindingSpec:
    return BindingSpec(
        kind=kind, source=source, destination=destination, routing_key=routing_key or "", arguments=arguments or {}
    )
