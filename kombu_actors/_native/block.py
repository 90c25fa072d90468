"""The block of one native broker: its calls have deadlines, and none outlives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..actors.connection import ConnectionActor
from ..errors import ConnectionClosed, DeadlineExceeded
from ..supervisors._interrupts import protected

T = TypeVar("T")

CALL_TIMEOUT = 30.0
"""Seconds a call may take by default: longer than a failover takes."""


@protected
class Block:
    """Makes calls within their deadlines until it is closed."""

    def __init__(self, actor: ConnectionActor) -> None:
        self._actor = actor
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False

    def check_open(self) -> None:
        """Raise ``ConnectionClosed``, or why supervision gave up, once the block is being left."""
        if self._closed:
            raise self.reason()

    def reason(self) -> BaseException:
        """What calls after the end are told."""
        failure = self._actor.failure
        if failure is not None:
            return failure
        where = self._actor.session.selector.current
        return ConnectionClosed(f"the block of this broker, connected to {where}, has been left: open another")

    async def call(self, what: str, timeout: float, fn: Callable[[], Awaitable[T]]) -> T:
        """Await a call for ``timeout`` seconds, all its parts included.

        Raises:
            DeadlineExceeded: it took longer; its text says what the connection is like.
            ConnectionClosed: the block was left, before or meanwhile.
        """
        self.check_open()
        with trio.move_on_after(timeout) as scope:
            self._scopes.add(scope)
            try:
                return await fn()
            finally:
                self._scopes.discard(scope)
        self.check_open()
        raise DeadlineExceeded(f"{what} took longer than {timeout:g} s: {self._actor.session.condition()}")

    def close(self) -> None:
        """Refuse calls from now on, and end those under way."""
        self._closed = True
        for scope in tuple(self._scopes):
            scope.cancel(reason="the broker's block was left")
