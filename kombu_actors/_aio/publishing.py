"""The publishes of one broker, from the tasks of an asyncio loop: handed over in bundles, and so their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from .._bridge.looping import LoopHandle
from .._bridge.supply import AT_ONCE, Supply
from .._native.batch import next_entry
from .._native.publishing import RuntimePublishing
from ..actors.publisher import WINDOW_BYTES, WINDOW_MESSAGES, Publisher
from ..actors.sending import begin, leave
from ..errors import RuntimeStopped
from ..protocols.ledger import Entry
from .place import LoopPlace

__all__ = ["LoopPublishing"]

LARGE = WINDOW_BYTES // WINDOW_MESSAGES
"""Bytes above which a publish is handed over by itself: bounds what waits in the bundle in bytes, too."""
AT_ONCE_BYTES = WINDOW_BYTES // 8
"""Bytes of ``publish_many``'s messages that are made ahead at a time."""


class LoopPublishing:
    """Publishes over the channel that ``runtime`` shares out."""

    def __init__(self, handle: LoopHandle, place: LoopPlace, runtime: RuntimePublishing) -> None:
        self._handle = handle
        self._place = place
        self._runtime = runtime

    async def send(self, entry: Entry, timeout: float) -> None:
        """Publish one message and wait for its outcome.

        Where there is nothing to wait for before it can be accepted it goes with the bundle, and needs no task.
        """
        self._place.check_open()
        channel = self._runtime.channel.open
        if channel is None or entry.size > LARGE or not self._has_room(channel.publisher):
            await self._place.run(self._runtime.send, entry, timeout)
            return
        channel.check_obstacle()
        publisher = channel.publisher
        publisher.check(entry)
        handle = self._handle
        future: asyncio.Future[None] = handle.loop.create_future()
        handle.waiting.add(future)
        try:
            handle.to_runtime.post(self._begin, publisher, entry, timeout, future)
            await future
        except RuntimeStopped:
            self._place.check_open()
            raise
        except asyncio.CancelledError:
            with suppress(RuntimeStopped):
                handle.to_runtime.post(leave, publisher, entry)
            raise
        finally:
            handle.waiting.discard(future)

    async def send_all(self, bodies: Iterable[object], make: Callable[[object], Entry], timeout: float) -> int:
        """Publish messages in order, many at a time under way; ``bodies`` are asked in the loop."""
        waiting = iter(bodies)

        def make_some() -> tuple[list[Entry | Exception | None], bool]:
            made: list[Entry | Exception | None] = []
            size = 0
            while len(made) < AT_ONCE and size < AT_ONCE_BYTES:
                made.append(entry := next_entry(waiting, make))
                if not isinstance(entry, Entry):
                    return made, False
                size += entry.size
            return made, True

        supply = Supply(make_some, self._handle.to_loop, self._handle.to_runtime)
        return await self._place.run(self._runtime.send_from, supply, timeout)

    def _has_room(self, publisher: Publisher) -> bool:
        return publisher.has_room() and publisher.under_way + len(self._handle.to_runtime) < WINDOW_MESSAGES

    def _begin(self, publisher: Publisher, entry: Entry, timeout: float, future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            begin(publisher, entry, timeout, partial(self._handle.to_loop.post, _settle, future))


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return  # whoever waited was cancelled
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
