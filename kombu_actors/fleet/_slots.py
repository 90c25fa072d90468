"""The slots of a consumer: long-lived tasks, each with one message at a time."""

from __future__ import annotations

import attrs
import trio

from ..broker import Delivered, Subscription
from ..supervisors._interrupts import protected
from ._gate import Gate
from ._handling import Handling
from ._settling import Settling
from ._threads import Threads
from .message import Message, Outlet


@attrs.define(eq=False)
class Slot:
    """A place for one message at work, or one batch."""

    number: int
    message: Message | None = None
    """None: it waits."""
    since: float = 0.0
    """When its handler was called, in seconds of trio's clock."""
    size: int = 1
    """Messages in the batch."""


@attrs.frozen(eq=False)
class Tools:
    """What the slots of one shift work with."""

    handling: Handling
    settling: Settling
    subscription: Subscription
    gate: Gate
    threads: Threads
    outlet: Outlet


@protected
class Crew:
    """The slots of one shift, which take messages as they come."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.slots = [Slot(number) for number in range(tools.settling.plan.concurrency)]
        self._handling = tools.handling
        self._settling = tools.settling
        self._gate = tools.gate
        self._replies = tools.settling.plan.handler.replies

    async def run(self) -> None:
        """Handle messages until the subscription has ended and every handler is done.

        Cancelled, handlers are cancelled, and what they had goes back into the queue.
        """
        async with trio.open_nursery() as nursery:
            for slot in self.slots:
                nursery.start_soon(self._work, slot, name=f"{self._settling.plan.handler.name} {slot.number}")

    def wake(self) -> None:
        """The shift is being ended: let who waits for something else see that."""
        self._gate.wake()
        self.tools.threads.wake()

    async def wait_room(self) -> None:
        """Wait until a thread may be begun, or the shift is being ended."""
        threads = self.tools.threads
        while threads.full and not self._settling.draining.is_set():
            await threads.wait_room()

    def taken(self, delivered: Delivered) -> Message:
        """A message came in."""
        self._settling.tally.received += 1
        return Message(delivered, self._settling.plan.name, self.tools.outlet, replies=self._replies)

    async def _work(self, slot: Slot) -> None:
        threads = self.tools.threads
        async for delivered in self.tools.subscription:
            await self.handle(slot, self.taken(delivered))
            if threads.full:
                await self.wait_room()

    async def handle(self, slot: Slot, message: Message) -> None:
        """One attempt at a message, and what becomes of it."""
        gate, settling = self._gate, self._settling
        alone = False
        try:
            if gate.narrow:
                alone = await gate.enter(settling.draining)
                if settling.draining.is_set():
                    settling.returned(message)
                    return
            slot.message, slot.since = message, trio.current_time()
            try:
                self.prepare(message)
                result = await self._handling.attempt(message)
            except Exception as error:
                gate.failed()
                await self.failed(message, error)
            else:
                gate.succeeded()
                if message.asked:
                    await settling.answered(message, result)
                else:
                    settling.succeeded(message)
        except BaseException:
            settling.returned(message)
            raise
        finally:
            slot.message = None
            if alone:
                gate.leave()

    def prepare(self, message: Message) -> None:
        """Decode the message; raises ``PayloadError``."""
        self._handling.decode(message)

    async def failed(self, message: Message, error: Exception) -> None:
        """The handler raised."""
        await self._settling.failed(message, error)
