"""A channel's exchanges, queues and bindings, in kombu's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic, sleep
from typing import NamedTuple

from amqp.exceptions import ResourceLocked

from .._bridge.feeds import ChannelNotice
from .._values.model import Arguments, BindingKind, BindingSpec, Declaration, ExchangeSpec, QueueSpec
from .channel_calls import ChannelCalls

LOCKED = 5.0
"""Seconds that an exclusive queue of one's own may still be locked: RabbitMQ notices a reset at once; on Redis a
session is over for the others when it has missed a beat (1 s)."""
LOOK_AGAIN = 0.1
_numbers = count()


class queue_declare_ok_t(NamedTuple):
    """What ``queue_declare`` returns."""

    queue: str
    message_count: int
    consumer_count: int


class ChannelTopology(ChannelCalls):
    """Declares and deletes; what was declared is declared again in every new session.

    ``nowait`` is accepted everywhere and waits all the same: an answer nobody reads is an error nobody sees.
    """

    def declare_all(self, declarations: Sequence[Declaration]) -> None:
        """Declare all of these in their order, many queues that follow one another together."""
        self._call_after_publishes(self._topology_calls.declare_all, declarations)

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
            name=exchange,
            type=type,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments or {},
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
        """Declare a queue and remember it; without a name the broker chooses one, anew in each session.

        An exclusive queue that is locked is waited for, up to 5 s, where ``Connection.tells_lost`` is in force: the
        program connects anew after a loss then, and its own former session may not be over for the broker yet.  In
        memory ``Connection.memory_exclusive`` may make it anybody's.
        """
        if exclusive and not self._host.memory_exclusive and self._host.transport_driver.name == "memory":
            exclusive, auto_delete = False, True
        spec = QueueSpec(name=queue, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments)
        deadline = monotonic() + (LOCKED if exclusive and not passive and self._held is not None else 0)
        while True:
            try:
                info = self._call_after_publishes(self._topology_calls.declare_queue, spec, passive=passive)
            except ResourceLocked:
                if monotonic() > deadline:
                    raise
                sleep(LOOK_AGAIN)  # no broker tells when a queue is free
            else:
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

    def current_name(self, queue: str) -> str:
        """The name that a queue has now, which the broker may have named anew."""
        return self.handle.names.current(queue)

    def known_name(self, queue: str) -> str:
        """The first name of a queue that the broker has named anew."""
        return self.handle.names.known(queue)

    def on_queue_renamed(self, queue: str, fn: Callable[[str, int, int], object]) -> None:
        """Have ``fn(name, 0, 0)`` called where events are drained, whenever the broker gives a queue another name."""
        notice = ChannelNotice(self.channel_id, "renamed", queue, next(_numbers))
        self.hearers[notice] = fn
        self.handle.report_names(queue, notice)


def _binding(
    kind: BindingKind, destination: str, source: str, routing_key: str | None, arguments: Arguments | None
) -> BindingSpec:
    return BindingSpec(
        kind=kind, source=source, destination=destination, routing_key=routing_key or "", arguments=arguments or {}
    )
