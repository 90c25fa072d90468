"""A message broker as a pure state machine: RabbitMQ's semantics without input, output or clock."""

from ._broker import VirtualBroker
from ._channel import Channel, Consumer
from ._message import Message, new_message
from ._queue import Queue
from ._session import (
    ChannelClosed,
    Confirmed,
    ConsumerCancelled,
    Delivered,
    Effect,
    MessageReturned,
    Replied,
    Session,
    SessionBlocked,
    SessionClosed,
)

__all__ = [
    "Channel",
    "ChannelClosed",
    "Confirmed",
    "Consumer",
    "ConsumerCancelled",
    "Delivered",
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
