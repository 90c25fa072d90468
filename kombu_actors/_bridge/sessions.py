"""News of a connection's sessions, told in the thread that drains its events."""

from __future__ import annotations

from collections.abc import Callable

from ..supervisors import Event, EventStream, Supervisor, root_cause
from ..supervisors.events import ChildBackingOff, ChildFailed, ChildReady, ChildStopped
from .connection import ConnectionHandle
from .feeds import Notice

__all__ = ["SessionWatch"]

CAPACITY = 1024
"""Events between two looks of the runtime's task at them, which looks at once: those of some hundred consumers."""


class SessionWatch:
    """While its block runs: ``on_lost(error, seconds)`` for each failed session or dial, then ``on_regained()``.

    ``seconds`` is how long supervision waits before it dials again.  ``on_regained`` is called once the declared
    topology holds again, ``on_consuming`` once all consumers are subscribed again: after that, or when a channel or
    a queue had failed.  All run in the thread that drains events.
    """

    def __init__(
        self,
        handle: ConnectionHandle,
        on_lost: Callable[[BaseException, float], object],
        on_regained: Callable[[], object],
        on_consuming: Callable[[], object],
        *,
        timeout: float,
    ) -> None:
        self._handle = handle
        self._lost = Notice(on_lost)
        self._regained = Notice(on_regained)
        self._consuming = Notice(on_consuming)
        self._timeout = timeout
        self._stream: EventStream | None = None
        self._over = False

    def __enter__(self) -> SessionWatch:
        self._handle.call(self._start, timeout=self._timeout)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over = True
        if self._handle.usable:
            self._handle.portal.post(self._end)

    def wake(self) -> None:
        """End the wait of whoever drains events.  May be called from anywhere, signal handlers included."""
        if self._handle.usable:
            self._handle.portal.post(self._handle.inbox.put, Notice(_nothing), [()])

    async def _start(self) -> None:
        self._handle.portal.spawn(self._listen, self._handle.actor.supervisor)

    def _end(self) -> None:
        if self._stream is not None:
            self._stream.push(Event(path="", at=0, wall=0))

    async def _listen(self, supervisor: Supervisor) -> None:
        async with supervisor.events(CAPACITY) as self._stream:
            if not self._over:  # left before this began, there was no stream to end
                await self._tell(self._stream)

    async def _tell(self, stream: EventStream) -> None:
        inbox = self._handle.inbox
        error: BaseException | None = None
        deaf = False
        async for event in stream:
            if self._over:
                return
            if event.path == "session" and isinstance(event, ChildFailed):
                error = root_cause(event.error)
            elif event.path == "session" and isinstance(event, ChildBackingOff) and error is not None:
                inbox.put(self._lost, [(error, event.delay)])
            elif event.path == "topology" and isinstance(event, ChildReady) and error is not None:
                error = None
                inbox.put(self._regained, [()])
            elif self._is_wished_for(event.path):
                if isinstance(event, ChildFailed | ChildStopped):
                    deaf = True
                elif deaf and isinstance(event, ChildReady) and self._all_subscribed():
                    deaf = False
                    inbox.put(self._consuming, [()])

    def _is_wished_for(self, path: str) -> bool:
        """Whether a path is that of a consumer which is to go on."""
        match path.split("/"):
            case ["channels", number, "consumers", id]:
                channel = self._handle.actor.channels.get(int(number))
                return channel is not None and any(consumer.id == id for consumer in channel.consumers.values())
        return False

    def _all_subscribed(self) -> bool:
        channels = self._handle.actor.channels.values()
        return all(consumer.subscribed for channel in channels for consumer in channel.consumers.values())


def _nothing() -> None:
    """Nothing is to be done: who drains looks up, and that is all."""
