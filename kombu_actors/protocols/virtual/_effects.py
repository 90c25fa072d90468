"""What the broker has to tell a client, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from amqp.exceptions import AMQPError

from ..._values.model import Delivery, Returned

if TYPE_CHECKING:
    from ._channel import Channel
    from ._consumer import Consumer


@attrs.define(eq=False)
class MessageDelivered:
    """A batch for one consumer; grows until the session's effects are taken."""

    consumer: Consumer
    batch: list[Delivery]


@attrs.define(eq=False)
class Confirmed:
    """``basic.ack`` or ``basic.nack`` to a publisher; grows over a run of tags with one outcome."""

    channel: Channel
    tag: int
    multiple: bool
    accepted: bool


@attrs.frozen(eq=False)
class MessageReturned:
    """``basic.return``; always before the confirm of the same message."""

    channel: Channel
    returned: Returned


@attrs.frozen(eq=False)
class ConsumerCancelled:
    """``basic.cancel`` from the broker: the consumer's queue is gone."""

    consumer: Consumer


@attrs.frozen(eq=False)
class ChannelClosed:
    """``channel.close`` from the broker."""

    channel: Channel
    error: AMQPError


@attrs.frozen(eq=False)
class SessionClosed:
    """``connection.close`` from the broker; nothing follows it."""

    error: AMQPError


@attrs.frozen(eq=False)
class SessionBlocked:
    """``connection.blocked`` with its reason, or ``connection.unblocked`` (None)."""

    reason: str | None


@attrs.frozen(eq=False)
class Replied:
    """The driver's own mark: everything before it happened before the reply it stands for."""

    call: Callable[[], None]


Effect = (
    MessageDelivered
    | Confirmed
    | MessageReturned
    | ConsumerCancelled
    | ChannelClosed
    | SessionClosed
    | SessionBlocked
    | Replied
)
