"""Replies to commands, on their way to who sent them; ``pidbox`` has them in ``Mailbox``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from time import monotonic, time
from typing import TYPE_CHECKING

from ._facade.surface import connection_of
from .clocks import LamportClock
from .messaging import Consumer as _Consumer

if TYPE_CHECKING:
    from ._facade.channel import Channel
    from ._facade.queue import Queue
    from .message import Message

__all__ = ["Replies"]


class Replies:
    """The replies that somebody waits for, by ticket: several threads may wait on one queue, each for its own."""

    def __init__(self, clock: LamportClock) -> None:
        self._clock = clock
        self._waiting: dict[str, deque[object]] = {}
        """What has come for whoever is waiting now."""

    def collect(
        self,
        ticket: str,
        queue: Queue,
        channel: Channel,
        *,
        limit: int | None,
        timeout: float | None,
        callback: Callable[..., object] | None,
        accept: Collection[str],
    ) -> list[object]:
        """Wait until ``limit`` replies have come, or none has for ``timeout`` seconds, and return them.

        None: the connection's ``call_timeout``.  ``callback(reply)`` is called for each.
        """
        connection = connection_of(channel)
        patience = connection.call_timeout if timeout is None else timeout
        came = self._waiting[ticket] = deque()
        replies: list[object] = []
        deadline = monotonic() + patience
        try:
            with _Consumer(channel, [queue], accept=accept, no_ack=True, callbacks=[self._on_reply]):
                while not limit or len(replies) < limit:
                    handled = connection.events_handled
                    if came:
                        reply = came.popleft()
                        if callback is not None:
                            callback(reply)
                        replies.append(reply)
                        deadline = monotonic() + patience
                        continue
                    try:
                        connection.drain_events(timeout=max(deadline - monotonic(), 0), since=handled)
                    except TimeoutError:
                        if not came:
                            break
        finally:
            del self._waiting[ticket]
            channel.after_reply_message_received(queue.name)
        return replies

    def _on_reply(self, body: object, message: Message) -> None:
        headers = message.headers or {}
        self._clock.adjust(headers.get("clock") or 0)
        expires = headers.get("expires")
        waiting = self._waiting.get(headers.get("ticket", ""))
        if waiting is not None and not (expires and time() > expires):
            waiting.append(body)
