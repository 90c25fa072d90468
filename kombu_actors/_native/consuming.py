"""``Broker.consume``: who handles the messages, in which order, and what becomes of those whose handler fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum

from .._logs import get_logger
from .._subscription import Subscription
from ..supervisors._interrupts import protected, run_unprotected, unprotected
from .delivered import Delivered

logger = get_logger("kombu_actors.consume")

Handler = Callable[[Delivered], Awaitable[object]]
"""Called with each message; what it returns is ignored."""
Key = Callable[[Delivered], Hashable]
"""Messages for which it returns the same are handled one after the other."""


class OnError(Enum):
    """What becomes of a message whose handler raised an error."""

    REJECT = "reject"
    """It is rejected: its queue dead-letters it, or drops it.  The log has an error with the traceback."""
    REQUEUE_ONCE = "requeue once"
    """It is put back if this was its first delivery, and rejected otherwise; both are logged."""
    RAISE = "raise"
    """``consume`` stops all handlers and raises the error; their messages go back into the queue, this one too."""


ErrorHandler = Callable[[Delivered, Exception], Awaitable[None]]
"""Decides about a message whose handler raised; rejected if that leaves it unsettled."""


@protected
class Crew:
    """The tasks that handle one subscription's messages; the driver of ``consume`` runs them."""

    def __init__(
        self, messages: Subscription, handler: Handler, key: Key | None, on_error: OnError | ErrorHandler
    ) -> None:
        self.messages = messages
        self._handler = handler
        self._key = key
        self._on_error = on_error
        self._lanes: dict[Hashable, deque[Delivered]] = {}
        """By key: what waits for the task that handles this key's messages now."""
        self._failure: BaseException | None = None

    async def work(self, is_cancelled: Callable[[BaseException], bool], stop: Callable[[], object]) -> None:
        """Be one of the tasks, until the subscription ends; when one fails, ``stop()`` cancels them all.

        ``is_cancelled(error)`` says whether the event loop has raised it to cancel the task.
        """
        try:
            async for message in self.messages:
                if self._key is None:
                    await self._handle(message)
                else:
                    await self._handle_in_turn(message, self._key)
        except BaseException as error:
            if is_cancelled(error):
                raise
            if self._failure is None:
                self._failure = error
            else:
                logger.exception("another task failed while the tasks of consume were stopped", exc_info=error)
            stop()

    def check(self) -> None:
        """After all tasks have ended: raise the first error, bare."""
        if self._failure is not None:
            raise self._failure

    async def _handle_in_turn(self, message: Delivered, key_of: Key) -> None:
        try:
            key = unprotected(key_of, message)
            lane = self._lanes.get(key)
        except Exception as error:
            await self._failed(message, error)
            return
        if lane is not None:
            lane.append(message)
            return
        lane = self._lanes[key] = deque([message])
        try:
            while lane:
                message = lane.popleft()
                if self.messages.giving_back:
                    message.requeue()
                elif not message.stale:
                    await self._handle(message)
        finally:
            del self._lanes[key]

    async def _handle(self, message: Delivered) -> None:
        try:
            await run_unprotected(self._handler, message)
        except Exception as error:
            await self._failed(message, error)
            return
        if not message.settled and not message.ack():
            logger.warning("%r was handled too late for its session: the broker delivers it again", message)

    async def _failed(self, message: Delivered, error: Exception) -> None:
        policy = self._on_error
        if policy is OnError.RAISE:
            raise error
        if not isinstance(policy, OnError):
            await run_unprotected(policy, message, error)
            if not message.settled:
                message.reject()
            return
        again = policy is OnError.REQUEUE_ONCE and not message.redelivered
        what = "it had been settled" if message.settled else "requeued" if again else "rejected"
        logger.error("handling %r failed; %s", message, what, exc_info=error)
        if not message.settled:
            message.requeue() if again else message.reject()
