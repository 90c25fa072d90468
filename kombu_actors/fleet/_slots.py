"""The slots of a consumer: long-lived tasks, each with one message at a time."""

from __future__ import annotations

import time

import attrs
import trio

from ..broker import Delivered, Subscription
from ..supervisors._interrupts import protected
from ._custody import Custody, NotBegun
from ._gate import Gate
from ._handling import Handling
from ._hands import queue_label
from ._measures import CallMeasures
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
    """When its handler was called, in seconds of ``time.perf_counter``, which tells it sooner than trio's clock."""
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
    custody: Custody | None
    """In a worker process: what notes the messages in hand."""
    measures: CallMeasures


@protected
class Crew:
    """The slots of one shift, which take messages as they come."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.slots = [Slot(number) for number in range(tools.settling.plan.concurrency)]
        self._handling = tools.handling
        self._settling = tools.settling
        self._gate = tools.gate
        self._custody = tools.custody
        self._label = queue_label(tools.settling.plan.name)
        self._measures = tools.measures
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
        if self._custody is not None:
            self._custody.wake()

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
            slot.message, slot.since = message, time.perf_counter()
            try:
                if self._custody is None:
                    self.prepare(message)
                    result = await self._handling.attempt(message)
                else:
                    result = await self._in_custody(self._custody, message)
            except NotBegun:
                settling.returned(message)
            except Exception as error:
                self._measures.call(slot.since, time.perf_counter(), message._delivered.properties)
                gate.failed()
                await self.failed(message, error)
            else:
                self._measures.call(slot.since, time.perf_counter(), message._delivered.properties)
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

    async def _in_custody(self, custody: Custody, message: Message) -> object:
        """The attempt, noted for the parent; first it is asked about a message that may have killed another process."""
        suspect = None
        if message.redelivered or custody.holds_back:
            suspect = await custody.admit(message, self._settling.draining)
        suspects = () if suspect is None else (suspect,)
        with custody.holding(self._label, (message,), suspects, self.tools.threads):
            self.prepare(message)
            return await self._handling.attempt(message)

    def prepare(self, message: Message) -> None:
        """Decode the message; raises ``PayloadError``."""
        self._handling.decode(message)

    async def failed(self, message: Message, error: Exception) -> None:
        """The handler raised."""
        await self._settling.failed(message, error)
