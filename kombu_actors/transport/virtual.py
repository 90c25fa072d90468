"""What brokers without AMQP have in common, as far as programs look at it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from queue import Empty
from typing import NamedTuple

from .._facade.kinds import Absent
from .._facade.kinds import VirtualChannel as Channel
from .._facade.message import Message
from .._facade.transports import Management, Transport
from ..errors import KombuError
from ..utils.encoding import bytes_to_str, str_to_bytes

__all__ = [
    "AbstractChannel",
    "Base64",
    "BrokerState",
    "Channel",
    "Empty",
    "Management",
    "Message",
    "NotEquivalentError",
    "QoS",
    "Transport",
    "UndeliverableWarning",
    "binding_key_t",
    "queue_binding_t",
]

AbstractChannel = Channel
BrokerState = Absent("kombu.transport.virtual.BrokerState", "exchanges, queues and bindings are the broker's")
QoS = Absent("kombu.transport.virtual.QoS", "what is unacknowledged is the channel's; use channel.basic_qos")


class Base64:
    """Bodies as base64."""

    def encode(self, s: str | bytes) -> str:
        """Bytes, or text as UTF-8, as base64 text."""
        return bytes_to_str(base64.b64encode(str_to_bytes(s)))

    def decode(self, s: str | bytes) -> bytes:
        """The bytes of base64 text."""
        return base64.b64decode(str_to_bytes(s))


class NotEquivalentError(KombuError):
    """An entity exists with other settings.  Kept for ``except`` clauses: it is ``PreconditionFailed`` here, 406."""


class UndeliverableWarning(UserWarning):
    """No queue took a message.  Kept for filters of warnings: publish with ``mandatory`` to hear of it."""


class binding_key_t(NamedTuple):
    """What a binding is told from others by."""

    queue: str
    exchange: str
    routing_key: str


class queue_binding_t(NamedTuple):
    """A queue's binding."""

    exchange: str
    routing_key: str
    arguments: Mapping[str, object] | None
