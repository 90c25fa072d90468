"""Slots that take messages by the batch: so many, or what has come within a time."""

from __future__ import annotations

import math
import time
from collections import deque

import trio

from ..supervisors._interrupts import protected
from ._custody import Custody, NotBegun, Suspect
from ._slots import Crew, Slot
from .errors import PayloadError
from .message import Message
from .policy import Reject


@protected
class BatchCrew(Crew):
    """Each slot gathers a batch of its own; the first message of it begins its time."""

    async def _work(self, slot: Slot) -> None:
        batch: list[Message] = []
        going_on = True
        while going_on:
            try:
                going_on = await self._gather(batch)
                if self._settling.draining.is_set():
                    self._return(batch)
                elif batch:
                    await self._handle_batch(slot, batch)
            except BaseException:
                self._return(batch)
                raise
            batch.clear()
            await self.wait_room()

    async def _gather(self, batch: list[Message]) -> bool:
        """Fill the batch; False when the subscription has ended."""
        wanted = self._settling.plan.batch
        assert wanted is not None  # a consumer without takes one message at a time
        at = math.inf
        while len(batch) < wanted.size and trio.current_time() < at:
            with trio.move_on_at(at):
                try:
                    delivered = await anext(self.tools.subscription)
                except StopAsyncIteration:
                    return False
                batch.append(self.taken(delivered))
                if len(batch) == 1:
                    at = trio.current_time() + wanted.within
        return True

    async def _handle_batch(self, slot: Slot, batch: list[Message]) -> None:
        gate, settling = self._gate, self._settling
        alone = await gate.enter(settling.draining) if gate.narrow else False
        try:
            if settling.draining.is_set():
                self._return(batch)
                return
            await self._attempt(slot, batch)
        finally:
            slot.message = None
            if alone:
                gate.leave()

    async def _attempt(self, slot: Slot, batch: list[Message]) -> None:
        begun = batch
        if self._custody is None:
            await self._call(slot, batch)
        else:
            left = await self._call_in_custody(self._custody, slot, batch)
            self._return(left)
            begun = [message for message in batch if message not in left]
        async with trio.open_nursery() as nursery:
            for message in begun:
                if message.error is None:
                    self._settling.succeeded(message)
                else:
                    nursery.start_soon(self._settling.failed, message, message.error)

    async def _call(self, slot: Slot, batch: list[Message]) -> None:
        """Call the handler with those that can be decoded."""
        sound = [message for message in batch if self._decoded(message)]
        if not sound:
            return
        slot.message, slot.since, slot.size = sound[0], time.perf_counter(), len(sound)
        try:
            await self._handling.attempt_batch(sound)
        except Exception as error:
            self._measures.call(slot.since, time.perf_counter(), sound[0].properties)
            self._gate.failed()
            for message in sound:
                message.error = message.error or error
        else:
            self._measures.call(slot.since, time.perf_counter(), sound[0].properties)
            self._gate.succeeded()

    async def _call_in_custody(self, custody: Custody, slot: Slot, batch: list[Message]) -> list[Message]:
        """As ``_call``, noted for the parent; who has to be alone is a batch of one.  Returns who was not begun."""
        draining, threads = self._settling.draining, self.tools.threads
        waiting, together, suspects = deque(batch), list[Message](), list[Suspect]()
        try:
            while waiting:
                message, suspect = waiting[0], None
                if message.redelivered:
                    try:
                        suspect = await custody.admit(message, draining)
                    except Reject as error:
                        message.error = error
                        waiting.popleft()
                        continue
                waiting.popleft()
                if suspect is not None and suspect.alone:
                    with custody.holding(self._label, (message,), (suspect,), threads):
                        await self._call(slot, [message])
                    continue
                together.append(message)
                suspects += [suspect] if suspect is not None else []
            await custody.wait_turn(draining)
        except NotBegun:
            return [*together, *waiting]
        if together:
            with custody.holding(self._label, together, suspects, threads):
                await self._call(slot, together)
        return []

    def _decoded(self, message: Message) -> bool:
        try:
            self._handling.decode(message)
        except PayloadError as error:
            message.error = error
        return message.error is None

    def _return(self, batch: list[Message]) -> None:
        for message in batch:
            self._settling.returned(message)
