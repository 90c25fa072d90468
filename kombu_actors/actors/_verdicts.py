"""Whose error it is: the broker's answer to one call may be the death of a channel, or of the session."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from amqp import exceptions as amqp_errors

from ..transport._contract import EndedByCall

CONSUMING = frozenset({(60, 20), (50, 10)})
"""AMQP's ids of what subscribing takes: ``basic.consume``, and ``queue.declare`` for looking for the queue."""


def is_answer(error: amqp_errors.AMQPError, methods: Collection[tuple[int, int]]) -> bool:
    """Whether an error answers one of these methods; transports without AMQP's methods raise it where it belongs."""
    method: Sequence[int] | None = error.method_sig
    return method is None or tuple(method) in methods


def verdict(error: BaseException) -> BaseException | None:
    """The connection error with which the broker answered this very call: asking again ends the next session.

    None when the session ended for another reason, or over a call that can't be told from this one.  Transports
    that know the answer beforehand raise it as it is, and keep the session.
    """
    if isinstance(error, amqp_errors.IrrecoverableConnectionError):
        found: BaseException = error
        return found
    return error.__cause__ if isinstance(error, EndedByCall) else None


def may_concern(error: BaseException, methods: Collection[tuple[int, int]]) -> bool:
    """Whether the session ended over a call like these: this one, or another's that can't be told from it."""
    cause: object = error.__cause__
    return isinstance(cause, amqp_errors.IrrecoverableConnectionError) and is_answer(cause, methods)
