"""What ``AMQPEngine.receive`` reports: one record per thing that happened, in wire order."""

# Annotations are evaluated here: as text each would be compiled on its own, which doubles what these classes cost.
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..._values.model import Delivery, Returned
from .fields import Arguments
from .negotiation import Limits

__all__ = [
    "ChannelClosed",
    "ChannelClosedByPeer",
    "ChannelOpened",
    "Confirmed",
    "ConnectionBlocked",
    "ConnectionClosed",
    "ConnectionClosedByPeer",
    "ConnectionOpened",
    "ConnectionUnblocked",
    "ConsumerCancelled",
    "MessageDelivered",
    "Event",
    "FlowChanged",
    "Got",
    "MessageReturned",
    "Oversized",
    "Replied",
]


class ConnectionOpened(NamedTuple):
    """The handshake is complete."""

    server_properties: Mapping[str, Any]
    limits: Limits


class ConnectionBlocked(NamedTuple):
    """The broker stopped reading from publishers."""

    reason: str


class ConnectionUnblocked(NamedTuple):
    """The broker reads from publishers again."""


class ConnectionClosedByPeer(NamedTuple):
    """The broker ended the connection; close-ok is in the outgoing bytes."""

    code: int
    text: str
    method: tuple[int, int]
    """Class and method id of what the broker blames, (0, 0) if nothing."""
    blamed: tuple[Any, ...]
    """Tokens of the requests under way that it may mean."""


class ConnectionClosed(NamedTuple):
    """The broker answered our goodbye."""


class ChannelOpened(NamedTuple):
    """The broker answered ``open_channel``."""

    channel: int
    token: Any


class ChannelClosed(NamedTuple):
    """The broker answered ``close_channel``; the number is free."""

    channel: int


class ChannelClosedByPeer(NamedTuple):
    """The broker ended the channel; close-ok is in the outgoing bytes, the number is free."""

    channel: int
    code: int
    text: str
    method: tuple[int, int]
    """Class and method id of what the broker blames, (0, 0) if nothing."""
    abandoned: tuple[Any, ...]
    """Tokens of the requests that will get no reply, oldest first."""


class Replied(NamedTuple):
    """The broker answered a request."""

    channel: int
    token: Any
    method: str
    arguments: Arguments


class Got(NamedTuple):
    """The broker answered basic.get with a message; ``remaining`` are left in the queue."""

    channel: int
    token: Any
    delivery: Delivery
    remaining: int


class MessageDelivered(NamedTuple):
    """Messages of one consumer that came one after another."""

    channel: int
    consumer_tag: str
    deliveries: list[Delivery]


class MessageReturned(NamedTuple):
    """A mandatory message found no queue."""

    channel: int
    returned: Returned


class Oversized(NamedTuple):
    """A message whose body is larger than ``body_max`` is on its way; its frames are discarded as they come."""

    channel: int
    token: Any
    """basic.get's; None for a delivery or a returned message."""
    method: str
    arguments: Arguments
    """Of the method: basic.deliver, basic.get-ok or basic.return."""
    size: int


class Confirmed(NamedTuple):
    """The broker took responsibility for a publish, or refused to; ``multiple`` means all up to ``tag``."""

    channel: int
    tag: int
    multiple: bool
    accepted: bool


class ConsumerCancelled(NamedTuple):
    """The broker ended a subscription."""

    channel: int
    consumer_tag: str


class FlowChanged(NamedTuple):
    """The broker asked to stop or to resume publishing; flow-ok is in the outgoing bytes."""

    channel: int
    active: bool


Event = (
    ConnectionOpened
    | ConnectionBlocked
    | ConnectionUnblocked
    | ConnectionClosedByPeer
    | ConnectionClosed
    | ChannelOpened
    | ChannelClosed
    | ChannelClosedByPeer
    | Replied
    | Got
    | MessageDelivered
    | MessageReturned
    | Oversized
    | Confirmed
    | ConsumerCancelled
    | FlowChanged
)
