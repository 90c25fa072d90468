"""Every exception kombu_actors raises on its own behalf.

Four words carry the design, in every transport: *closed* is what you did, *lost* is what
the world did, *refused* is the broker's considered no, *unknown* is an outcome nobody can
tell.  Errors that the AMQP specification numbers (403, 404, 406, ...) are raised as
py-amqp's classes, on every transport, because that is what code written against kombu
catches.  The facade's ``kombu_actors.exceptions`` re-exports the names kombu documents.
"""

from __future__ import annotations

from amqp import exceptions as amqp_errors

__all__ = [
    "BrokerUnreachable",
    "ChannelLimitExceeded",
    "ConnectionBlocked",
    "ConnectionClosed",
    "ConnectionLimitExceeded",
    "ConnectionLost",
    "ContentDisallowed",
    "DeadlineExceeded",
    "DecodeError",
    "EncodeError",
    "HandshakeFailed",
    "InconsistencyError",
    "InvalidURL",
    "KombuError",
    "LimitExceeded",
    "MessageStateError",
    "NotBoundError",
    "OperationalError",
    "PublishRefused",
    "PublishReturned",
    "PublishUnknown",
    "RuntimeDied",
    "RuntimeStopped",
    "SerializationError",
    "SerializerNotInstalled",
    "StaleDelivery",
    "UnknownProperty",
    "UnsupportedScheme",
]


class KombuError(Exception):
    """Root of every exception defined here."""


class OperationalError(KombuError):
    """The broker or the way to it failed; trying again later may succeed."""


class SerializationError(KombuError):
    """A body could not be turned into bytes, or back."""


class EncodeError(SerializationError):
    """The body of a publish can't be serialized; nothing was sent."""


class DecodeError(SerializationError):
    """The body of a received message can't be decoded."""


class SerializerNotInstalled(KombuError):
    """The named serializer or content type is not registered."""


class ContentDisallowed(SerializerNotInstalled):
    """The consumer does not accept messages of this content type."""


class NotBoundError(KombuError):
    """An exchange or queue was used without a channel."""


class MessageStateError(KombuError):
    """The message was already acknowledged, rejected or requeued."""


class LimitExceeded(KombuError):
    """A pool has handed out all it may."""


class ConnectionLimitExceeded(LimitExceeded):
    """A connection pool has handed out all its connections."""


class ChannelLimitExceeded(LimitExceeded):
    """No channel number is left, in a pool or on the connection."""


class InconsistencyError(amqp_errors.ConnectionError):
    """The broker's record of bindings is missing or incomplete."""


class InvalidURL(KombuError, ValueError):
    """A broker URL can't be understood.  Its message never carries the password."""


class UnsupportedScheme(InvalidURL, KeyError):
    """No transport answers to the URL's scheme (kombu raises ``KeyError`` here)."""

    __str__ = Exception.__str__


class BrokerUnreachable(OperationalError, ConnectionError):
    """No endpoint of the URL accepted a connection."""


class HandshakeFailed(BrokerUnreachable):
    """Something answered, but not an AMQP broker, or not in the way configured (TLS or plain)."""


class ConnectionLost(OperationalError, amqp_errors.RecoverableConnectionError):
    """The connection to the broker died; supervision is making a new one."""


class ConnectionClosed(OperationalError, amqp_errors.RecoverableConnectionError):
    """You closed this connection or channel, then used it."""


class ConnectionBlocked(OperationalError, amqp_errors.Blocked):
    """The broker has stopped reading from publishers (memory or disk alarm)."""


class StaleDelivery(OperationalError, amqp_errors.RecoverableConnectionError):
    """The message came over a channel that has died since; the broker delivers it again.

    Nothing was sent: an ack never crosses epochs.
    """


class DeadlineExceeded(OperationalError, TimeoutError):
    """A call did not finish by its deadline."""


class PublishUnknown(OperationalError, amqp_errors.RecoverableConnectionError):
    """Nobody can tell whether the broker has the message: publish it again, or look."""


class PublishRefused(OperationalError, amqp_errors.MessageNacked):
    """The broker took the message and then refused it (``basic.nack``)."""


class UnknownProperty(KombuError, ValueError):
    """AMQP 0-9-1 has no message property of this ``name``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r:.80} is not a message property of AMQP 0-9-1; put your own data into headers")
        self.name = name


class PublishReturned(OperationalError, amqp_errors.ChannelError):
    """The message was mandatory and no queue would have got it (``basic.return``)."""

    code = 312


class RuntimeStopped(KombuError):
    """The runtime that serves this object has ended."""


class RuntimeDied(RuntimeStopped, ConnectionLost):
    """The runtime that served this connection has died, of what ``__cause__`` says; its next use gets a new one."""
