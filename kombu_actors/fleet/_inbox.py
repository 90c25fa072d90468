"""Skipping what was done before, by a record that the program keeps.

A message can come twice: an ack is lost with its session, a confirm with its publisher.  It has the same ``id`` then.
Nothing of it is remembered here: only the program's own storage outlives the process, and only there can the record and
the work be one transaction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from .._logs import get_logger
from ._plans import CallNext, Middleware
from .errors import AlreadyHandled, FleetError, FleetMistake
from .message import Message

__all__ = ["Once", "inbox"]

logger = get_logger("kombu_actors.fleet")

Once = Callable[[Message], AbstractAsyncContextManager[bool]]
"""``async with once(message) as new``: whether it has not been done yet.  Left without an error, it is done."""


def inbox(once: object) -> Middleware:
    """The middleware that asks ``once`` about each message, and skips those that are not new.

    Raises:
        FleetMistake: that can't be what ``once`` is.
    """
    if not callable(once) or inspect.iscoroutinefunction(once) or inspect.isasyncgenfunction(once):
        raise FleetMistake(
            "fleet.inbox takes a function that makes an async context manager: put @asynccontextmanager on an"
            f" `async def once(message)` that yields whether the message is new, not {once!r:.80}"
        )

    ask: Once = once

    async def skip_done(message: Message, call_next: CallNext) -> object:
        async with ask(message) as new:
            if new:
                return await call_next(message)
        if new:
            raise FleetError(f"the inbox swallowed what the handler of queue {message.queue!r} raised: let it through")
        if message.asked:
            raise AlreadyHandled(f"message {message.id} was handled before, and nobody has kept the answer")
        logger.info("message %s of queue %r was handled before, and is skipped", message.id, message.queue)
        return None

    return skip_done
