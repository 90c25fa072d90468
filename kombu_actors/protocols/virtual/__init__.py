"""A message broker as a pure state machine: RabbitMQ's semantics without input, output or clock."""

from ._broker import MEMORY_LIMIT, MESSAGE_LIMIT, VirtualBroker
from ._channel import Channel
from ._consumer import Consumer
from ._effects import (
    ChannelClosed,
    Confirmed,
    ConsumerCancelled,
    Effect,
    MessageDelivered,
    MessageReturned,
    Replied,
    SessionBlocked,
    SessionClosed,
)
from ._message import Message, new_message
from ._queue import Queue
from ._routing import ROUTING_TABLES
from ._session import Session

EXCHANGE_TYPES = frozenset(ROUTING_TABLES)

__all__ = [
    "EXCHANGE_TYPES",
    "MEMORY_LIMIT",
    "MESSAGE_LIMIT",
    "Channel",
    "ChannelClosed",
    "Confirmed",
    "Consumer",
    "ConsumerCancelled",
    "MessageDelivered",
    "Effect",
    "Message",
    "MessageReturned",
    "Queue",
    "Replied",
    "Session",
    "SessionBlocked",
    "SessionClosed",
    "VirtualBroker",
    "new_message",
]
