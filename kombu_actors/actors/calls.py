"""Calls over wire channels, and whose error it is when the broker ends a channel, or the session, over one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

import trio
from amqp import exceptions as amqp_errors

from ..errors import ConnectionLost
from ..transport._waiting import EndedByCall

__all__ = ["CONSUMING", "Calls", "is_answer", "may_concern", "verdict"]

T = TypeVar("T")
E = TypeVar("E")

ATTEMPTS = 5
"""Sessions that may end over the calls of others while one is being made."""
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


class Calls:
    """The calls of one connection that concern a single channel (``basic.get``, ``basic.recover``, ...)."""

    def __init__(self) -> None:
        self._repeated = 0
        """How many calls are made again, because a session ended over one that nobody can tell from them."""
        self.one_by_one = trio.Lock()
        """Held by who makes a call that nothing else must be taken for."""

    async def make(self, reach: Callable[[], Awaitable[E]], call: Callable[[E], Awaitable[T]]) -> T:
        """Make one call on what ``reach`` waits for.

        When the broker ends the session over a call (540, ...), that call raises its answer, and the others are made
        again in the next session: one at a time, for as long as it is not known which of them it means.

        Raises:
            AMQPNotImplementedError, ...: the broker's answer to this call.
            ConnectionLost: the session ended for another reason, or again and again over calls of others.
        """
        lost: ConnectionLost | None = None
        try:
            for _ in range(ATTEMPTS):
                try:
                    if not self._repeated:
                        return await call(await reach())
                    async with self.one_by_one:
                        return await call(await reach())
                except EndedByCall as ended:
                    answer = ended.__cause__ or ended
                    raise answer.with_traceback(None) from None
                except ConnectionLost as error:
                    if not isinstance(error.__cause__, amqp_errors.IrrecoverableConnectionError):
                        raise
                    self._repeated += lost is None
                    lost = error
            assert lost is not None
            raise lost
        finally:
            self._repeated -= lost is not None
