"""Whose error it is: the broker's answer to one call may be the death of a channel, or of the session."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from amqp import exceptions as amqp_errors

EXCHANGE_DECLARE, EXCHANGE_DELETE, EXCHANGE_BIND, EXCHANGE_UNBIND = (40, 10), (40, 20), (40, 30), (40, 40)
QUEUE_DECLARE, QUEUE_BIND, QUEUE_PURGE, QUEUE_DELETE, QUEUE_UNBIND = (50, 10), (50, 20), (50, 30), (50, 40), (50, 50)
TOPOLOGY = frozenset(
    (
        EXCHANGE_DECLARE,
        EXCHANGE_DELETE,
        EXCHANGE_BIND,
        EXCHANGE_UNBIND,
        QUEUE_DECLARE,
        QUEUE_BIND,
        QUEUE_PURGE,
        QUEUE_DELETE,
        QUEUE_UNBIND,
    )
)
"""AMQP's ids of the methods that declare, bind and delete."""
CONSUMING = frozenset(((60, 20), QUEUE_DECLARE))
"""Of those that subscribing takes: ``basic.consume``, and looking for the queue."""


def is_answer(error: amqp_errors.AMQPError, methods: Collection[tuple[int, int]]) -> bool:
    """Whether an error answers one of these methods; transports without AMQP's methods raise it where it belongs."""
    method: Any = error.method_sig
    return method is None or tuple(method) in methods


def verdict(error: BaseException, methods: Collection[tuple[int, int]]) -> BaseException | None:
    """The connection error with which the broker answered one of these methods: asking again ends the next session.

    None when the session ended for another reason.  Transports that know the answer beforehand raise it
    as it is, and keep the session.
    """
    hard: type[BaseException] = amqp_errors.IrrecoverableConnectionError
    if isinstance(error, hard):
        return error
    cause: Any = error.__cause__
    return cause if isinstance(cause, hard) and is_answer(cause, methods) else None
