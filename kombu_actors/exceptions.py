"""The exceptions kombu documents, under the names kombu gives them.

``ConnectionError``, ``ChannelError`` and ``ResourceError`` are py-amqp's, on every transport, and
``TimeoutError`` is the built-in one, which ``socket.timeout`` has become.
"""

from __future__ import annotations

from builtins import TimeoutError
from types import TracebackType
from typing import NoReturn

from amqp.exceptions import ChannelError, ConnectionError, ResourceError

from .errors import (
    BrokerUnreachable,
    ChannelLimitExceeded,
    ConnectionBlocked,
    ConnectionClosed,
    ConnectionLimitExceeded,
    ConnectionLost,
    ContentDisallowed,
    DeadlineExceeded,
    DecodeError,
    EncodeError,
    HandshakeFailed,
    InconsistencyError,
    InvalidURL,
    KombuError,
    LimitExceeded,
    MessageStateError,
    NotBoundError,
    OperationalError,
    PublishRefused,
    PublishReturned,
    PublishUnknown,
    RuntimeStopped,
    SerializationError,
    SerializerNotInstalled,
    StaleDelivery,
    UnsupportedScheme,
)

__all__ = [
    "BatchPublishError",
    "BrokerUnreachable",
    "ChannelError",
    "ChannelLimitExceeded",
    "ConnectionBlocked",
    "ConnectionClosed",
    "ConnectionError",
    "ConnectionLimitExceeded",
    "ConnectionLost",
    "ContentDisallowed",
    "DeadlineExceeded",
    "DecodeError",
    "EncodeError",
    "HandshakeFailed",
    "HttpError",
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
    "ResourceError",
    "RuntimeStopped",
    "SerializationError",
    "SerializerNotInstalled",
    "StaleDelivery",
    "TimeoutError",
    "UnsupportedScheme",
    "VersionMismatch",
    "reraise",
]


class VersionMismatch(KombuError):
    """A dependency's version does not fit.  Kept for ``except`` clauses; nothing here raises it."""


class BatchPublishError(KombuError):
    """A batch of publishes failed, and nobody knows which are there.  Kept for ``except`` clauses."""


class HttpError(Exception):
    """A web server's answer.  Kept for ``except`` clauses; nothing here raises it."""

    def __init__(self, code: int, message: str | None = None, response: object = None) -> None:
        super().__init__(code, message, response)
        self.code, self.message, self.response = code, message, response

    def __str__(self) -> str:
        return f"HTTP {self.code}: {self.message}"


def reraise(tp: type[BaseException], value: BaseException, tb: TracebackType | None = None) -> NoReturn:
    """Raise ``value`` with the traceback ``tb``."""
    raise value.with_traceback(tb)
