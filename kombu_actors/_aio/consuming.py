"""What ``consume`` needs to know of asyncio's cancellation, which is an exception like others."""

from __future__ import annotations

import asyncio

from .._native.consuming import Handler
from .._native.delivered import Delivered
from .._subscription import Subscription

__all__ = ["is_cancelled", "tell_failed", "uncancelled"]


def is_cancelled(error: BaseException) -> bool:
    """Whether an error is the cancellation of the task that runs."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def uncancelled(handler: Handler) -> Handler:
    """A handler whose ``CancelledError`` is its failure when nobody has cancelled the task that it runs in.

    It comes out of whatever else it awaited that was cancelled; taken for a cancellation, it would end the task, and
    with it a part of ``consume``, without a word.
    """

    async def handle(message: Delivered) -> object:
        try:
            return await handler(message)
        except asyncio.CancelledError as error:
            if is_cancelled(error):
                raise
            raise RuntimeError("the handler let out a CancelledError of something that it awaited") from error

    return handle


def tell_failed(started: asyncio.Future[Subscription], error: BaseException) -> None:
    """Have whoever waits for the subscription raise why there is none; it is no fault that nobody does."""
    if isinstance(error, Exception):
        started.set_exception(error)
        started.exception()
    else:
        started.cancel()
