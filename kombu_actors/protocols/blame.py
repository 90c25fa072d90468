"""What the end of a channel says about the publishes that were under way on it.

Pure.  The broker answers a publish it won't take by ending the channel, or the whole connection, and
seldom says which publish it meant.
"""

from __future__ import annotations

from enum import Enum

from amqp import exceptions as amqp_errors

from ..errors import ConnectionClosed

__all__ = ["Blame", "judge", "names_exchange"]

PUBLISH = (60, 40)
"""basic.publish, as ``channel.close`` and ``connection.close`` name the method they answer."""
NOTHING = (0, 0)
HARD_ERRORS = frozenset({501, 502, 503, 505, 540, 541})
"""``connection.close`` for what came over it: frame and syntax errors, wrong commands, not implemented, internal."""
DEFAULT_EXCHANGE = "amq.default"
"""How RabbitMQ calls the default exchange in its refusals."""


class Blame(Enum):
    """Who ended it."""

    OTHER = "other"
    """Somebody or something else: another method, an operator, we."""
    UNREAD = "unread"
    """Nobody can tell, and the broker wasn't reading: an alarm."""
    UNNAMED = "unnamed"
    """Nobody says why."""
    PUBLISH = "publish"
    """A publish of this channel."""
    PUBLISH_SOMEWHERE = "publish somewhere"
    """A publish of this or another channel of the connection."""


def judge(reason: BaseException) -> Blame:
    """Read a channel's ``closed``: py-amqp's exception, for a lost connection as the ``__cause__``."""
    if isinstance(reason, ConnectionClosed):
        return Blame.OTHER
    if isinstance(reason, amqp_errors.ChannelError):
        method = reason.method_sig or NOTHING
        if method == NOTHING:
            return Blame.UNNAMED
        return Blame.PUBLISH if tuple(method) == PUBLISH else Blame.OTHER
    said = reason.__cause__ if reason.__cause__ is not None else reason
    code = said.reply_code if isinstance(said, amqp_errors.AMQPError) else 0
    if not isinstance(said, amqp_errors.AMQPError) or not code:
        return Blame.UNNAMED
    method = tuple(said.method_sig or NOTHING)
    if method == PUBLISH or (method == NOTHING and code in HARD_ERRORS):
        return Blame.PUBLISH_SOMEWHERE
    return Blame.OTHER


def names_exchange(reason: BaseException, exchange: str) -> bool:
    """Whether a refusal concerns every publish to this exchange: there is none, or this user may not write to it.

    A refusal of single routing keys (topic permissions) names the exchange, too.
    """
    if not isinstance(reason, amqp_errors.NotFound | amqp_errors.AccessRefused):
        return False
    text = reason.reply_text or ""
    return f"exchange '{exchange or DEFAULT_EXCHANGE}' in vhost" in text and "access to topic '" not in text
