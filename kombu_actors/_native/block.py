"""The block of one broker in the runtime: its calls have deadlines, and none outlives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from ..actors.connection import ConnectionActor
from ..errors import ConnectionClosed, DeadlineExceeded
from ..supervisors._interrupts import protected
from ..supervisors._lots import Lot, TrioLot
from .backlog import Backlog
from .delivered import Settles

T = TypeVar("T")


@protected
class Block:
    """Makes calls within their deadlines until it is closed: the ``Place`` of programs that run in trio themselves."""

    def __init__(self, actor: ConnectionActor, backlog: Backlog) -> None:
        self.shrank = backlog.shrank
        self._actor = actor
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False

    def check_open(self) -> None:
        """Raise ``ConnectionClosed``, or why supervision gave up, once the block is being left."""
        if self._closed:
            raise self.reason()

    def reason(self) -> BaseException:
        """What calls after the end are told.  Any thread."""
        failure = self._actor.failure
        if failure is not None:
            return failure
        where = self._actor.session.selector.current
        return ConnectionClosed(f"the block of this broker, connected to {where}, has been left: open another")

    async def call(self, what: str, timeout: float, fn: Callable[[], Awaitable[T]]) -> T:
        """Await a call for ``timeout`` seconds, all its parts included."""
        self.check_open()
        with trio.move_on_after(timeout) as scope:
            self._scopes.add(scope)
            try:
                return await fn()
            finally:
                self._scopes.discard(scope)
        self.check_open()
        raise DeadlineExceeded(f"{what} took longer than {timeout:g} s: {self._actor.session.condition()}")

    async def finish(self, fn: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Await a call for so long at most, whoever is cancelled."""
        with trio.move_on_after(seconds, shield=True):
            await fn()

    def tell(self, fn: Callable[..., object], *args: object) -> None:
        """Call it: the program is here."""
        fn(*args)

    def settling(self, wire: Settles) -> Settles:
        """The channel itself."""
        return wire

    def lot(self) -> Lot:
        """For tasks of this run."""
        return TrioLot()

    def close(self) -> None:
        """Refuse calls from now on, and end those under way."""
        self._closed = True
        for scope in tuple(self._scopes):
            scope.cancel(reason="the broker's block was left")
