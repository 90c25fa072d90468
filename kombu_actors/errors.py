"""Every exception that a program meets.

Four words carry the design, in every transport: *closed* is what you did, *lost* is what
the world did, *refused* is the broker's considered no, *unknown* is an outcome nobody can
tell.  The facade's ``kombu_actors.exceptions`` re-exports the names kombu documents.

What the AMQP specification numbers is raised as py-amqp's classes, on every transport, because that is what code
written against kombu catches:

* ``NotFound`` (404): there is no such queue or exchange.
* ``AccessRefused`` (403): wrong password, a missing permission, or somebody consumes exclusively.
* ``PreconditionFailed`` (406): it is there with other settings, or the message is not acceptable.
* ``ResourceLocked`` (405): an exclusive queue of another connection.
* ``ContentTooLarge`` (311): a message beyond ``body_max``.
* ``NotAllowed`` (530): no such virtual host, or no right to use it.
* ``AMQPNotImplementedError`` (540): this broker can't do that; from RabbitMQ it ends the connection, see
  ``docs/reliability.md``.

The first five are ``amqp.exceptions.ChannelError``: they concern one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, TypeVar

from amqp import exceptions as amqp_errors
from amqp.exceptions import (
    AccessRefused,
    AMQPNotImplementedError,
    ContentTooLarge,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)

__all__ = [
    "AMQPNotImplementedError",
    "AccessRefused",
    "BrokerUnreachable",
    "ChannelLimitExceeded",
    "ConnectionBlocked",
    "ConnectionClosed",
    "ConnectionLimitExceeded",
    "ConnectionLost",
    "ContentDisallowed",
    "ContentTooLarge",
    "DeadlineExceeded",
    "DecodeError",
    "EncodeError",
    "HandshakeFailed",
    "InconsistencyError",
    "InvalidURL",
    "KombuError",
    "LimitExceeded",
    "MessageStateError",
    "NotAllowed",
    "NotBoundError",
    "NotFound",
    "OperationalError",
    "PreconditionFailed",
    "PublishErrors",
    "PublishRefused",
    "PublishReturned",
    "PublishUnknown",
    "ResourceLocked",
    "RuntimeDied",
    "RuntimeStopped",
    "SerializationError",
    "SerializerNotInstalled",
    "StaleDelivery",
    "UnknownProperty",
    "UnsupportedScheme",
]


E = TypeVar("E", bound=Exception)


class KombuError(Exception):
    """Root of every exception defined here; the numbered ones above are ``amqp.exceptions.AMQPError``."""


class OperationalError(KombuError):
    """The broker or the way to it failed; trying again later may succeed."""


class SerializationError(KombuError):
    """A body could not be turned into bytes, or back."""


class EncodeError(SerializationError):
    """The body of a publish can't be serialized; nothing was sent."""


class DecodeError(SerializationError):
    """The body of a received message can't be decoded."""


class SerializerNotInstalled(KombuError):
    """The named serializer or content type is not registered, or the library it needs is not installed."""


class ContentDisallowed(SerializerNotInstalled):
    """The consumer does not accept messages of this content type (``accept``); nothing of it was decoded."""


class NotBoundError(KombuError):
    """An exchange or queue was used without a channel."""


class MessageStateError(KombuError):
    """The message was already acknowledged, rejected or requeued; nothing was sent this time."""


class LimitExceeded(KombuError):
    """A pool has handed out all it may."""


class ConnectionLimitExceeded(LimitExceeded):
    """A connection pool has handed out all its connections."""


class ChannelLimitExceeded(LimitExceeded):
    """No channel number is left, in a pool or on the connection: end subscriptions, or raise ``channel_max``."""


class InconsistencyError(amqp_errors.ConnectionError):
    """The broker's record of bindings is missing or incomplete."""


class InvalidURL(KombuError, ValueError):
    """A broker URL can't be understood.  Its message never carries the password."""


class UnsupportedScheme(InvalidURL, KeyError):
    """No transport answers to the URL's scheme (kombu raises ``KeyError`` here)."""

    __str__ = Exception.__str__


class BrokerUnreachable(OperationalError, ConnectionError):
    """No endpoint of the URL accepted a connection; ``__cause__`` is what the last one said."""


class HandshakeFailed(BrokerUnreachable):
    """Something answered, but not an AMQP broker, or not in the way configured (TLS or plain)."""


class ConnectionLost(OperationalError, amqp_errors.RecoverableConnectionError):
    """The connection to the broker died during a call that can't be repeated; supervision is making a new one.

    Whether the call was carried out is unknown; try again.
    """


class ConnectionClosed(OperationalError, amqp_errors.RecoverableConnectionError):
    """You closed this connection or channel, or left its block, and then used it."""


class ConnectionBlocked(OperationalError, amqp_errors.Blocked):
    """The broker has stopped reading from publishers (memory or disk alarm), and your message was not sent in time."""


class StaleDelivery(OperationalError, amqp_errors.RecoverableConnectionError):
    """The message came over a channel that has died since; the broker delivers it again.

    Nothing was sent: an ack never crosses sessions.  Native programs get it only from ``ack(strict=True)`` and its kin.
    """


class DeadlineExceeded(OperationalError, TimeoutError):
    """A call did not finish by its deadline; the text says what the connection was like.  A ``TimeoutError``."""


class PublishUnknown(OperationalError, amqp_errors.RecoverableConnectionError):
    """Nobody can tell whether the broker has the message: publish it again, or look."""


class PublishRefused(OperationalError, amqp_errors.MessageNacked):
    """The broker took the message and then refused it (``basic.nack``): a queue was full, or could not store it."""


class PublishErrors(ExceptionGroup[Exception], OperationalError):
    """Some messages of a ``publish_many`` were not confirmed; holds their exceptions, for ``except*``.

    Nothing was sent after the first failure was heard of; messages that were under way then have outcomes of their own.
    """

    outcomes: Sequence[BaseException | None]
    """In order: None for a message that is confirmed, else what ``publish`` would have raised for it.  Those behind the
    last of them were not sent."""

    def __new__(cls, outcomes: Sequence[BaseException | None]) -> Self:
        failures = [error for error in outcomes if isinstance(error, Exception)]
        first = next(number for number, error in enumerate(outcomes) if error is not None)
        text = f"of {len(outcomes)} messages {len(failures)} were not confirmed, the first of them message {first}"
        group = super().__new__(cls, text, failures)
        group.outcomes = tuple(outcomes)
        return group

    def __init__(self, outcomes: Sequence[BaseException | None]) -> None:
        super().__init__(self.message, self.exceptions)

    # Its parent has overloads, for groups of what is no Exception: this one holds none.
    def derive(self, excs: Sequence[E], /) -> ExceptionGroup[E]:  # type: ignore[override]
        """A part of it, for ``except*``: a plain group."""
        return ExceptionGroup(self.message, excs)


class UnknownProperty(KombuError, ValueError):
    """AMQP 0-9-1 has no message property of this ``name``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r:.80} is not a message property of AMQP 0-9-1; put your own data into headers")
        self.name = name


class PublishReturned(OperationalError, amqp_errors.ChannelError):
    """The message was mandatory and no queue would have got it (``basic.return``)."""

    code = 312


class RuntimeStopped(KombuError):
    """The runtime that serves this object (of the blocking API) has ended."""


class RuntimeDied(RuntimeStopped, ConnectionLost):
    """The runtime that served this connection has died, of what ``__cause__`` says; its next use gets a new one."""
