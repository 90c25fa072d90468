"""Slots that take messages by the batch: so many, or what has come within a time."""

from __future__ import annotations

import math

import trio

from ..supervisors._interrupts import protected
from ._slots import Crew, Slot
from .errors import PayloadError
from .message import Message


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
        sound = [message for message in batch if self._decoded(message)]
        if sound:
            slot.message, slot.since, slot.size = sound[0], trio.current_time(), len(sound)
            try:
                await self._handling.attempt_batch(sound)
            except Exception as error:
                self._gate.failed()
                for message in sound:
                    message.error = message.error or error
            else:
                self._gate.succeeded()
        async with trio.open_nursery() as nursery:
            for message in batch:
                if message.error is None:
                    self._settling.succeeded(message)
                else:
                    nursery.start_soon(self._settling.failed, message, message.error)

    def _decoded(self, message: Message) -> bool:
        try:
            self._handling.decode(message)
        except PayloadError as error:
            message.error = error
        return message.error is None

    def _return(self, batch: list[Message]) -> None:
        for message in batch:
            self._settling.returned(message)
