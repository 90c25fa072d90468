"""Slots that take messages from lanes: per key in order."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Hashable

import trio

from ..supervisors._interrupts import protected, unprotected
from ._custody import Custody, NotBegun
from ._lanes import Lanes
from ._plans import Key
from ._slots import Crew, Slot, Tools
from .message import Message
from .policy import DeadLettered, RetryLater

CHECKPOINT_EVERY = 32
"""Messages that a slot takes between two full checkpoints; as ``Subscription`` has it."""


@protected
class LaneCrew(Crew):
    """One task sorts what comes into lanes, without waiting for anything; so the prefetch bounds what is here."""

    def __init__(self, tools: Tools, key: Key) -> None:
        super().__init__(tools)
        self.lanes: Lanes[Message] = Lanes()
        self._key = key
        self._blocks = tools.settling.plan.on_error == "block"
        self._ended = False
        self._waiting = trio.lowlevel.ParkingLot()
        """Slots without a message."""
        self._held = trio.lowlevel.ParkingLot()
        """The task that lets held messages go."""
        self._lane_of: dict[Message, Hashable] = {}
        """Of the messages at work."""

    async def run(self) -> None:
        """See ``Crew.run``; messages that are held for another attempt go back at the end as well."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sort)
            nursery.start_soon(self._let_go)
            try:
                await super().run()
            finally:
                self._give_back()
            nursery.cancel_scope.cancel(reason="all slots are done")

    def wake(self) -> None:
        """See ``Crew.wake``."""
        super().wake()
        self._give_back()
        self._waiting.unpark_all()

    async def _sort(self) -> None:
        async for delivered in self.tools.subscription:
            message = self.taken(delivered)
            key: Hashable = message
            try:
                if self._custody is None:
                    key = self._lane(message)
                else:
                    key = await self._lane_in_custody(self._custody, message)
                self.lanes.add(key, message)
            except NotBegun:
                self._settling.returned(message)
            except Exception as error:
                # In a lane of its own: there is no other.
                message._problem = error
                self.lanes.add(message, message)
            except BaseException:
                self._settling.returned(message)
                raise
            self._waiting.unpark()
        self._ended = True
        self.wake()

    def _lane(self, message: Message) -> Hashable:
        self._handling.decode(message)
        return unprotected(self._key, message)

    async def _lane_in_custody(self, custody: Custody, message: Message) -> Hashable:
        """To decode a message may be what kills the process; its handler is another matter, with a question of its own.

        Those that come after it wait, for they may be of its lane.
        """
        suspect = None
        if message.redelivered or custody.holds_back:
            suspect = await custody.admit(message, self._settling.draining)
        suspects = () if suspect is None else (suspect,)
        with custody.holding(self._label, (message,), suspects, self.tools.threads, acquits=False):
            return self._lane(message)

    async def _work(self, slot: Slot) -> None:
        for number in itertools.count():
            if number % CHECKPOINT_EVERY == 0:
                await trio.lowlevel.checkpoint()
            entry = None if self._settling.draining.is_set() else self.lanes.take()
            if entry is None:
                if self._ended:
                    return
                await self._waiting.park()
                continue
            key, message = entry
            self._lane_of[message] = key
            try:
                await self.handle(slot, message)
            finally:
                if self._lane_of.pop(message, None) is not None:
                    self.lanes.done(key)
            await self.wait_room()

    async def _let_go(self) -> None:
        while True:
            at = self.lanes.next_release
            with trio.move_on_at(math.inf if at is None else at):
                await self._held.park()
            self._waiting.unpark(count=self.lanes.release(trio.current_time()))

    def prepare(self, message: Message) -> None:
        """It was decoded when it came."""
        if message._problem is not None:
            raise message._problem

    async def failed(self, message: Message, error: Exception) -> None:
        """Where its lane waits for it, a message stays here until its next attempt."""
        settling = self._settling
        decision = settling.decide(message, error)
        asked = message.asked
        free = message._problem is not None or asked or message._delivered.stale or settling.draining.is_set()
        if not self._blocks or free or isinstance(decision, DeadLettered):
            await settling.failed(message, error)
            return
        if isinstance(decision, RetryLater):
            message._first_at = message.first_at or time.time()
            message._failed_here += 1
        settling.tell(decision, message, error)
        self.lanes.hold(self._lane_of.pop(message), message, trio.current_time() + decision.delay)
        self._held.unpark_all()

    def _give_back(self) -> None:
        for message in self.lanes.clear():
            self._settling.returned(message)
