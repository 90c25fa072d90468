"""Where a program's tasks run, seen from the calls that it makes: in the run of trio that has the connection's tree, or
in an event loop of another thread.

All else about a broker's calls is the same for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from ..protocols.ledger import Entry
from ..supervisors._lots import Lot
from .delivered import Settles

__all__ = ["CALL_TIMEOUT", "Place", "Publishing"]

T = TypeVar("T")

CALL_TIMEOUT = 30.0
"""Seconds a call may take by default: longer than a failover takes."""


class Place(Protocol):
    """The program's side of one broker."""

    def check_open(self) -> None:
        """Raise ``ConnectionClosed``, or why supervision gave up, once the block is being left."""

    async def call(self, what: str, timeout: float, fn: Callable[[], Awaitable[T]]) -> T:
        """Have ``fn()`` awaited in the runtime, for ``timeout`` seconds at most, and wait for what it returns.

        Raises:
            DeadlineExceeded: it took longer; its text says what the connection is like.
            ConnectionClosed: the block was left, before or meanwhile.

        Cancelled, it is cancelled there, and over when this raises.
        """

    async def finish(self, fn: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Have ``fn()`` awaited in the runtime for so long at most, also for a task that is cancelled."""

    def tell(self, fn: Callable[..., object], *args: object) -> None:
        """In the runtime: have ``fn(*args)`` called where the program's tasks run, in order."""

    def settling(self, wire: Settles) -> Settles:
        """For the program: a channel, where the program may settle what came over it."""

    def shrank(self, messages: int, body_bytes: int) -> None:
        """By the program: messages that came are not buffered any more."""

    def lot(self) -> Lot:
        """A place for tasks of the program to wait."""


class Publishing(Protocol):
    """How a program's publishes get to the one channel that they share."""

    async def send(self, entry: Entry, timeout: float) -> None:
        """Publish one message and wait for its outcome; see ``actors.sending.send``."""

    async def send_all(self, bodies: Iterable[object], make: Callable[[object], Entry], timeout: float) -> int:
        """Publish messages in order, many at a time under way; see ``batch.Batch``."""
