"""The half of ``Fleet`` that is about a fleet that runs: ending it, seeing it, steering it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from ..supervisors import EventStream
from ._custody import Custody
from ._running import EVENTS, Run
from ._tracing import Tracing
from .errors import FleetError
from .views import FleetView

__all__ = ["Steered"]


class Steered:
    """What may be asked of a running fleet; raises ``FleetError`` while it isn't."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tracing: Tracing | None = None
        """Who is told what it does; ``telemetry.instrument`` has one."""
        self.custody: Custody | None = None
        """What notes messages in hand for a parent; a worker process sets it before ``run``."""
        self._run: Run | None = None

    def drain(self, reason: str = "drain was called") -> None:
        """Have ``run`` end in order."""
        self._running().drain(reason)

    def stop(self, reason: str = "stop was called") -> None:
        """Have ``run`` end at once: handlers are cancelled, and their messages go back."""
        self._running().cut(reason)

    async def pause(self, queue: str) -> None:
        """Take no more messages of a queue in this process, until ``resume``.

        Returns when the broker sends none any more and what no handler has begun is back in the queue.  Handlers that
        have begun finish.  Cancelled, the pause goes on.
        """
        for consumer in self._running().consumers(queue):
            await consumer.pause()

    def resume(self, queue: str) -> None:
        """Go on with a queue that was paused, when the handlers that were at work then are done."""
        for consumer in self._running().consumers(queue):
            consumer.resume()

    async def restart(self, path: str) -> None:
        """Restart an actor of the tree by hand, with its group: at once, and off its budget.

        A consumer is asked to stop first, and its handlers have ``drain_timeout`` seconds.  Returns when it has begun.

        Raises:
            FleetError: there is no actor at ``path`` (``snapshot().tree`` has them), or the fleet isn't running.
        """
        await self._running().restart(path)

    def snapshot(self) -> FleetView:
        """The fleet as it is now: its tree, connections, slots at work, lanes, counts; ``to_dict()`` makes it JSON."""
        return self._running().snapshot()

    def activity(self) -> tuple[int, int]:
        """How many messages have been taken in, and how many are in hand now: a microsecond, a ``snapshot`` takes a
        thousand."""
        return self._running().activity()

    def events(self, capacity: int = EVENTS) -> AbstractAsyncContextManager[EventStream]:
        """``async with fleet.events() as stream``: what happens from now on, to actors and to messages.

        The records are those of ``supervisors.events``, ``fleet.events``, and of the connections (their paths begin
        with ``consuming/`` and ``publishing/``).  A reader that falls behind loses the oldest.
        """
        return self._running().events(capacity)

    def _running(self) -> Run:
        if self._run is None:
            raise FleetError(f"fleet {self.name!r} is not running")
        return self._run
