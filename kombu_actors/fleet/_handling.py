"""One attempt at a message: its payload, its handler in the middleware, its time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import trio

from ..errors import ContentDisallowed, DecodeError, SerializerNotInstalled
from ..supervisors._interrupts import protected, run_unprotected, unprotected
from ._plans import CallNext, ConsumerPlan, Middleware
from ._threads import Threads
from ._tracing import Tracing, processing
from .errors import HandlerTimeout, PayloadError
from .message import Message


@protected
class Handling:
    """Calls the handler of one consumer with what its resources have yielded; composed once for a shift."""

    def __init__(
        self,
        plan: ConsumerPlan,
        values: Sequence[object],
        middleware: Sequence[Middleware],
        threads: Threads,
        tracing: Tracing | None,
    ) -> None:
        if tracing is not None:
            middleware = (processing(tracing), *middleware)
        self._tracing = tracing
        self._plan = plan
        self._values = values
        self._threads = threads
        self._decode = plan.handler.decode
        self._timeout = plan.timeout
        self._call: Callable[..., Any] = plan.handler.call
        self._arguments: tuple[object, ...] = (values,)
        if not plan.handler.is_async or middleware:
            self._call = self._composed(middleware)
            self._arguments = ()

    def decode(self, message: Message) -> None:
        """Give the message its payload.

        Raises:
            PayloadError: it isn't what it claims to be, is of a kind that isn't accepted, or isn't what the annotation
                of the handler says.
        """
        try:
            payload = message._delivered.payload
        except (DecodeError, ContentDisallowed, SerializerNotInstalled) as error:
            raise PayloadError(str(error)) from error
        message.payload = payload if self._decode is None else unprotected(self._decode, payload)

    async def attempt(self, message: Message) -> object:
        """Call the handler; raises what it raises, or ``HandlerTimeout``."""
        if self._timeout is None:
            return await run_unprotected(self._call, message, *self._arguments)
        with trio.CancelScope(deadline=trio.current_time() + self._timeout):
            return await run_unprotected(self._call, message, *self._arguments)
        raise self._too_long()

    async def attempt_batch(self, messages: list[Message]) -> None:
        """Call the handler with all of them; raises as ``attempt``."""
        call = self._plan.handler.call_batch
        assert call is not None  # a consumer with batch= has one
        deadline = trio.current_time() + (self._timeout or float("inf"))
        told = nullcontext() if self._tracing is None else self._tracing.processing(messages)
        with trio.CancelScope(deadline=deadline), told:
            if self._plan.handler.is_async:
                await run_unprotected(call, messages, self._values)
            else:
                await self._threads.call(messages[0].id, call, messages, self._values)
            return
        raise self._too_long()

    def _too_long(self) -> HandlerTimeout:
        return HandlerTimeout(f"{self._plan.handler.name} took longer than its timeout of {self._timeout:g} s")

    def _composed(self, middleware: Sequence[Middleware]) -> CallNext:
        call, values = self._plan.handler.call, self._values

        async def in_task(message: Message) -> object:
            return await call(message, values)

        async def in_thread(message: Message) -> object:
            return await self._threads.call(message.id, call, message, values)

        last: CallNext = in_task if self._plan.handler.is_async else in_thread
        for one in reversed(middleware):
            last = _wrapped(one, last)
        return last


def _wrapped(middleware: Middleware, call_next: CallNext) -> CallNext:
    async def call(message: Message) -> object:
        return await middleware(message, call_next)

    return call
