"""Making a subscription anew, for who suspects that it has gone deaf: alone, with its channel, or with the session."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from .._logs import get_logger
from ..supervisors import ActorDown, UnknownChild

if TYPE_CHECKING:
    from .channel import ChannelActor
    from .connection import ConnectionActor
    from .consumer import DesiredConsumer

__all__ = ["Renewal", "is_expected", "renew"]

logger = get_logger("kombu_actors.connection")


class Renewal(Enum):
    """How much is made anew."""

    CONSUMER = "consumer"
    """The subscription: the broker is told to end it, and asked for it again.  What was delivered stays valid."""
    CHANNEL = "channel"
    """Its channel: what is not settled comes again."""
    SESSION = "session"
    """The connection's session, and with it all its channels: what is not settled on any of them comes again."""


async def renew(owner: ConnectionActor, channel: ChannelActor, consumer: DesiredConsumer, what: Renewal) -> None:
    """Have supervision restart it, at once and off its budget; returns when that has begun.

    What is not there just now is being made anew already.
    """
    tree = owner.supervisor
    above, id = {
        Renewal.CONSUMER: (f"channels/{channel.id}/consumers", consumer.id),
        Renewal.CHANNEL: (f"channels/{channel.id}", "channel"),
        Renewal.SESSION: ("", "session"),
    }[what]
    parent = tree.nested(above) if above else tree
    try:
        if parent is not None:
            await parent.restart_child(id, reason=f"{what.value} to be made anew, for queue {consumer.spec.queue!r}")
    except (ActorDown, UnknownChild) as gone:
        logger.debug("the %s of queue %r is on its way already: %s", what.value, consumer.spec.queue, gone)


def is_expected(owner: ConnectionActor, consumer: DesiredConsumer) -> bool:
    """Whether messages should come: there is a session, and the broker has not refused the subscription."""
    return owner.session.is_up and consumer.waiting is None
