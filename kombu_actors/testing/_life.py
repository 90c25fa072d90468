"""The runs of a simulated fleet: one after the other, when it is killed in between."""

from __future__ import annotations

import trio

from ..broker import Broker
from ..errors import BrokerUnreachable
from ..fleet import Certificate, Fleet, events
from ..fleet._headers import Copy
from ..supervisors.events import Event
from .records import Book, Retried

__all__ = ["Life"]

START_AGAIN = 0.5
"""Seconds between two tries to start."""


class Life:
    """Owns the fleet's runs, and hears what happens in them."""

    def __init__(self, fleet: Fleet, nursery: trio.Nursery, onlooker: Broker, book: Book) -> None:
        self.fleet = fleet
        self.certificates: list[Certificate] = []
        """One for each run that has ended."""
        self._nursery = nursery
        self._onlooker = onlooker
        self._book = book
        self._began = trio.current_time()
        self._ended = trio.Event()
        self._ended.set()

    @property
    def now(self) -> float:
        """Seconds since the fleet was READY for the first time."""
        return trio.current_time() - self._began

    def tell(self, text: str) -> None:
        """Add a line to the trace."""
        self._book.trace.append(f"{self.now:.4f} {text}")

    @property
    def running(self) -> bool:
        """Whether there is a run now."""
        return not self._ended.is_set()

    async def begin(self) -> None:
        """Start the first run; time is counted from its READY on."""
        await self.start()
        self._began = trio.current_time()

    async def start(self) -> None:
        """Start the next run; returns when it is READY.  Without a broker it is tried again, as init systems do."""
        while True:
            self._ended = trio.Event()
            try:
                await self._nursery.start(self._run)
            except BrokerUnreachable:
                await trio.sleep(START_AGAIN)
            else:
                self.fleet._running().listen(self._hear)
                return

    async def kill(self) -> None:
        """End the run at once, and wait until it is gone.  What it could still say to the broker is its caller's."""
        if self.running:
            self.fleet.stop("killed by the simulation")
        await self._ended.wait()

    def end(self) -> None:
        """Have the run end in order."""
        if self.running:
            self.fleet.drain("the scenario is over")

    async def copy(self, queue: str, copied: Copy) -> None:
        """Publish a message a second time."""
        await self._onlooker.publish(
            copied.body,
            routing_key=queue,
            content_type=copied.content_type,
            content_encoding=copied.content_encoding,
            headers=copied.headers,
            **copied.properties,
        )

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            self.certificates.append(await self.fleet.run(task_status=task_status))
        finally:
            self._ended.set()

    def _hear(self, event: Event) -> None:
        match event:
            case events.MessageRetried(queue=queue, message_id=id, failed=failed):
                self._book.retried.append(Retried(queue, id, failed))
                self.tell(f"{queue}: {id} retried after {failed} failures")
            case events.MessageDeadLettered(queue=queue, message_id=id, reason=reason):
                self._book.dead.append((queue, id))
                self.tell(f"{queue}: {id} dead-lettered: {reason}")
