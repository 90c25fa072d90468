"""A broker in this process: ``memory://name``.

It behaves as RabbitMQ does, refusals included, so that what works here works there.  Links with the
same name share a broker, whichever trio run or thread they live in; another name, or another virtual
host, is another world.  Nothing is stored: the broker ends with the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

import trio

from ..._values.endpoint import Endpoint, LinkOptions, body_max_of
from ..._values.model import BODY_MAX, Capabilities, Properties
from ..._values.originals import pristine
from ...protocols._content import refuse_size, validate_content
from ...protocols.virtual import EXCHANGE_TYPES, Message, new_message
from .broker import MemoryBroker
from .link import MemoryLink

__all__ = ["MemoryBroker", "MemoryLink", "MemoryTransport", "forget_memory_broker", "memory_broker"]

DEFAULT_NAME: Final = "localhost"
"""What ``memory://`` means, being what an empty host means in every URL."""
CHANNEL_MAX: Final = 2047
"""RabbitMQ's own default."""
CONNECT_TIMEOUT: Final = 5.0
"""Seconds; kombu's default."""


class _Registry:
    """The brokers of this process by name."""

    def __init__(self) -> None:
        self.lock = pristine("threading").RLock()
        self.brokers: dict[str, MemoryBroker] = {}


_registry = _Registry()


def _start_afresh() -> None:
    # A forked child has none of the threads that may have held a lock or served a link.
    global _registry
    _registry = _Registry()


os.register_at_fork(after_in_child=_start_afresh)


def memory_broker(name: str = DEFAULT_NAME, *, make: Callable[[str], MemoryBroker] = MemoryBroker) -> MemoryBroker:
    """The broker that ``memory://name`` connects to; made (by ``make(name)``) when first asked for."""
    name = name or DEFAULT_NAME
    with _registry.lock:
        broker = _registry.brokers.get(name)
        if broker is None:
            broker = _registry.brokers[name] = make(name)
        return broker


def forget_memory_broker(name: str = DEFAULT_NAME) -> None:
    """Cut what is connected to ``memory://name``, and start afresh when it is asked for again."""
    with _registry.lock:
        broker = _registry.brokers.pop(name or DEFAULT_NAME, None)
    if broker is not None:
        broker.refuse()
        broker.cut()


class MemoryTransport:
    """Opens links to brokers in this process, and validates messages for them."""

    name = "memory"
    capabilities = Capabilities(heartbeats=False, confirms=True, exchange_types=EXCHANGE_TYPES)

    def __init__(self, transport_options: Mapping[str, object] | None = None) -> None:
        """The only option that matters here is ``body_max``."""
        self._body_max = body_max_of(transport_options or {})

    async def connect(self, endpoint: Endpoint, options: LinkOptions) -> MemoryLink:
        """Connect to the broker named ``endpoint.host``, in its ``endpoint.virtual_host``.

        Raises:
            BrokerUnreachable: ``MemoryBroker.refuse`` is in force.
        """
        await trio.lowlevel.checkpoint()
        return memory_broker(endpoint.host).open_link(
            user=getattr(endpoint, "userid", None) or "guest",
            virtual_host=endpoint.virtual_host or "/",
            channel_max=getattr(options, "channel_max", None) or CHANNEL_MAX,
            body_max=getattr(options, "body_max", None) or BODY_MAX,
            goodbye_timeout=getattr(options, "connect_timeout", None) or CONNECT_TIMEOUT,
        )

    def prepare(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        properties: Properties,
        mandatory: bool = False,
    ) -> Message:
        """Validate one message and take a private copy of its properties; any thread may call this.

        Raises:
            ValueError: an argument breaks a rule of ``protocols._content``, or the body is too large.
            TypeError: the body is not bytes.
        """
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"body must be bytes, not {type(body).__name__}; serialize it first")
        if len(body) > self._body_max:
            refuse_size(len(body), self._body_max)
        sent = validate_content(exchange, routing_key, properties)
        return new_message(exchange, routing_key, sent, bytes(body), mandatory=mandatory)

    def content_of(self, prepared: Message) -> tuple[Mapping[str, object], bytes]:
        """Properties, as a receiver would see them, and body of a prepared message."""
        return prepared.properties, prepared.body
