"""Watching supervision at work: which actors restarted, and who did not notice."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kombu_actors import Connection
from kombu_actors.supervisors import Event

EVENTS = 10_000
"""More events than any test makes, so that none is dropped."""


class Arrivals:
    """The highest message number that has arrived; any thread may add, any may wait."""

    def __init__(self) -> None:
        self._highest = -1
        self._changed = threading.Condition()

    def add(self, number: int) -> None:
        with self._changed:
            self._highest = max(self._highest, number)
            self._changed.notify_all()

    def wait(self, number: int, timeout: float) -> bool:
        """Wait until a message numbered ``number`` or later has arrived; False when none has in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._highest >= number, timeout)


class Recording:
    """The supervision events of one connection, read by the blocking world as they happen."""

    def __init__(self, connection: Connection, stream: Any) -> None:
        self._connection = connection
        self._stream = stream

    def until(self, condition: Callable[[Event], bool], timeout: float) -> list[Event]:
        """Everything up to the first event for which the condition holds; fails after ``timeout`` seconds."""
        events: list[Event] = self._connection.call(read_until, self._stream, condition, timeout=timeout)
        return events


async def read_until(stream: Any, condition: Callable[[Event], bool]) -> list[Event]:
    """Read a native event stream up to the first event for which the condition holds."""
    events: list[Event] = []
    async for event in stream:
        events.append(event)
        if condition(event):
            break
    return events


@contextlib.contextmanager
def recorded(connection: Connection) -> Iterator[Recording]:
    """Record a facade connection's events from here on."""
    actor = connection.connect().actor
    context = actor.supervisor.events(EVENTS)
    yield Recording(connection, connection.call(context.__aenter__))
    connection.call(context.__aexit__, None, None, None)


def happened(kind: type[Event], path: str) -> Callable[[Event], bool]:
    """The condition that this kind of event happened to this actor."""
    return lambda event: type(event) is kind and event.path == path


def strangers(events: Iterable[Event], subtree: str) -> list[Event]:
    """The events that concern anything outside of one actor and what is below it."""
    return [event for event in events if event.path != subtree and not event.path.startswith(f"{subtree}/")]
