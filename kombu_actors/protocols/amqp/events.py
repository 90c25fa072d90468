"""What ``AMQPEngine.receive`` reports: one record per thing that happened, in wire order."""

from __future__ import annotations

from collections.abc import Mapping

from ..._frozen import Record
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


class ConnectionOpened(Record):
    """The handshake is complete."""

    server_properties: Mapping[str, object]
    limits: Limits


class ConnectionBlocked(Record):
    """The broker stopped reading from publishers."""

    reason: str


class ConnectionUnblocked(Record):
    """The broker reads from publishers again."""


class ConnectionClosedByPeer(Record):
    """The broker ended the connection; close-ok is in the outgoing bytes."""

    code: int
    text: str
    method: tuple[int, int]
    """Class and method id of what the broker blames, (0, 0) if nothing."""
    blamed: tuple[object, ...]
    """Tokens of the requests under way that it may mean."""


class ConnectionClosed(Record):
    """The broker answered our goodbye."""


class ChannelOpened(Record):
    """The broker answered ``open_channel``."""

    channel: int
    token: object


class ChannelClosed(Record):
    """The broker answered ``close_channel``; the number is free."""

    channel: int


class ChannelClosedByPeer(Record):
    """The broker ended the channel; close-ok is in the outgoing bytes, the number is free."""

    channel: int
    code: int
    text: str
    method: tuple[int, int]
    """Class and method id of what the broker blames, (0, 0) if nothing."""
    abandoned: tuple[object, ...]
    """Tokens of the requests that will get no reply, oldest first."""


class Replied(Record):
    """The broker answered a request."""

    channel: int
    token: object
    method: str
    arguments: Arguments


class Got(Record):
    """The broker answered basic.get with a message; ``remaining`` are left in the queue."""

    channel: int
    token: object
    delivery: Delivery
    remaining: int


class MessageDelivered(Record):
    """Messages of one consumer that came one after another."""

    channel: int
    consumer_tag: str
    deliveries: list[Delivery]


class MessageReturned(Record):
    """A mandatory message found no queue."""

    channel: int
    returned: Returned


class Oversized(Record):
    """A message whose body is larger than ``body_max`` is on its way; its frames are discarded as they come."""

    channel: int
    token: object
    """basic.get's; None for a delivery or a returned message."""
    method: str
    arguments: Arguments
    """Of the method: basic.deliver, basic.get-ok or basic.return."""
    size: int


class Confirmed(Record):
    """The broker took responsibility for a publish, or refused to; ``multiple`` means all up to ``tag``."""

    channel: int
    tag: int
    multiple: bool
    accepted: bool


class ConsumerCancelled(Record):
    """The broker ended a subscription."""

    channel: int
    consumer_tag: str


class FlowChanged(Record):
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
