"""Carries a plan's faults out on the broker in memory, and on the handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import trio

from ..fleet import Message
from ..fleet._headers import copy_of
from ..fleet._plans import ConsumerPlan
from ..transport.memory import MemoryBroker, MemoryLink
from ._life import Life
from .faults import Fault, FaultKind, FaultPlan, InjectedCrash
from .records import Attempt, Book, Fate

__all__ = ["Breaker"]

ON_HANDLERS = {FaultKind.CRASH_BEFORE, FaultKind.CRASH_AFTER, FaultKind.DELAY, FaultKind.DUPLICATE}
T = TypeVar("T")


class Breaker:
    """Breaks one simulation's fleet by a plan, and notes every call of a handler."""

    def __init__(self, broker: MemoryBroker, book: Book, life: Life) -> None:
        self.over = trio.Event()
        """Set when the last fault that comes at a time has ended."""
        self._broker = broker
        self._book = book
        self._life = life
        self._spared = frozenset(broker.links)
        """The links of the simulation itself: only a restart of the broker concerns them."""
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._killing = trio.Lock()
        """Who is being started isn't killed; that would be nothing new."""
        self._calls = 0
        self._at_calls: list[Fault] = []
        """Faults that wait for their call."""
        self._armed: list[Fault] = []
        """Faults of handlers that wait for the next call."""

    async def carry_out(self, plan: FaultPlan) -> None:
        """Break what the plan says, when it says so, until ``stop``."""
        self._at_calls = [fault for fault in plan.faults if fault.call is not None]
        timed = [fault for fault in plan.faults if fault.call is None]
        began = trio.current_time()
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                await self._strike_all(timed, began)

    async def _strike_all(self, timed: Sequence[Fault], began: float) -> None:
        async with trio.open_nursery() as striking:
            for fault in timed:
                await trio.sleep_until(began + fault.at)
                striking.start_soon(self.strike, fault)
        self.over.set()
        await trio.sleep_forever()

    def stop(self) -> None:
        """Strike no more, and end what lasts."""
        self._scope.cancel(reason="the scenario is over")

    async def strike(self, fault: Fault) -> None:
        """Carry one fault out; returns when it is over (those of handlers: at once)."""
        self._life.tell(f"FAULT {fault}")
        if fault.kind in ON_HANDLERS:
            self._armed.append(fault)
            return
        links = [link for link in self._broker.links if link not in self._spared]
        match fault.kind:
            case FaultKind.DROP_SESSION:
                if links:
                    self._broker.cut(link=_chosen(links, fault))
            case FaultKind.CLOSE_CHANNEL:
                channels = [channel for link in links for channel in link.channels.values() if channel is not None]
                if channels:
                    self._broker.close_channel(_chosen(channels, fault))
            case FaultKind.RESTART_BROKER:
                self._broker.restart()
            case FaultKind.KILL_FLEET:
                async with self._killing:
                    with self._unreachable(links):
                        await self._life.kill()
                    await self._life.start()
            case FaultKind.REFUSE:
                with self._unreachable(links):
                    await trio.sleep(fault.seconds)
            case FaultKind.BLOCK:
                self._broker.block("a fault of the simulation")
                try:
                    await trio.sleep(fault.seconds)
                finally:
                    self._broker.unblock()

    @contextmanager
    def _unreachable(self, links: Sequence[MemoryLink]) -> Iterator[None]:
        self._broker.refuse()
        for link in links:
            self._broker.cut(link=link)
        try:
            yield
        finally:
            self._broker.refuse(False)

    async def _strike_later(self, fault: Fault) -> None:
        for _ in range(fault.steps):
            await trio.lowlevel.checkpoint()
        await self.strike(fault)

    # -- handlers -----------------------------------------------------------------------------

    def around(self, plan: ConsumerPlan) -> ConsumerPlan:
        """The consumer, with its handler noted and broken.

        A plain function is called in place instead of in a thread: the clock would not wait for a thread.
        """
        handler = plan.handler

        async def call(message: Message, values: Sequence[object]) -> object:
            return await self._attempt(plan, [message], lambda: handler.call(message, values))

        async def call_batch(messages: list[Message], values: Sequence[object]) -> object:
            batch = handler.call_batch
            assert batch is not None  # it has one, or this is not called
            return await self._attempt(plan, messages, lambda: batch(messages, values))

        noted = attrs.evolve(
            handler, is_async=True, call=call, call_batch=None if handler.call_batch is None else call_batch
        )
        return attrs.evolve(plan, handler=noted)

    def _begin_call(self) -> None:
        self._calls += 1
        for fault in [one for one in self._at_calls if one.call == self._calls]:
            self._at_calls.remove(fault)
            if self._nursery is not None:
                self._nursery.start_soon(self._strike_later, fault)

    async def _attempt(self, plan: ConsumerPlan, messages: list[Message], call: Callable[[], object]) -> object:
        self._begin_call()
        faults, self._armed = self._armed, []
        began = self._life.now
        fate, error = Fate.CANCELLED, ""
        try:
            result = await self._broken(plan, messages, call, faults)
            fate = Fate.HANDLED
        except Exception as raised:
            fate, error = Fate.FAILED, type(raised).__name__
            raise
        finally:
            for message in messages:
                own = (Fate.FAILED, type(message.error).__name__) if message.error is not None else (fate, error)
                self._note(Attempt(plan.name, message.id, message.attempt, began, self._life.now, *own))
        return result

    async def _broken(
        self, plan: ConsumerPlan, messages: list[Message], call: Callable[[], Any], faults: list[Fault]
    ) -> object:
        kinds = {fault.kind for fault in faults}
        if FaultKind.DUPLICATE in kinds:
            message = messages[0]
            await self._life.copy(plan.name, copy_of(message._delivered, message.id, message.headers))
        for fault in faults:
            if fault.kind is FaultKind.DELAY:
                await trio.sleep(fault.seconds)
        if FaultKind.CRASH_BEFORE in kinds:
            raise InjectedCrash("before the handler")
        result = call()
        if plan.handler.is_async:
            result = await result
        if FaultKind.CRASH_AFTER in kinds:
            raise InjectedCrash("after the handler")
        return result

    def _note(self, attempt: Attempt) -> None:
        self._book.attempts.append(attempt)
        error = f" ({attempt.error})" if attempt.error else ""
        what = f"{attempt.message_id} attempt {attempt.number} {attempt.fate.value}{error}"
        self._life.tell(f"{attempt.queue}: {what}")


def _chosen(things: Sequence[T], fault: Fault) -> T:
    return things[min(int(fault.which * len(things)), len(things) - 1)]
