"""Whose turn it is: the consumers of one queue.

A consumer without room (prefetch used up, or its connection not reading) is *parked*: taken out of
the rotation, so that a dispatch never walks over it, until whoever makes room resumes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from ._consumer import Consumer


class Rotation(Protocol):
    """The consumers of a queue, and the order in which they are served."""

    def add(self, consumer: Consumer) -> None: ...
    def remove(self, consumer: Consumer) -> None: ...
    def resume(self, consumer: Consumer) -> None:
        """Let a parked consumer take part again."""

    def take(self) -> Consumer | None:
        """The consumer with room whose turn it is; None when nobody has room."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Consumer]: ...


@attrs.define(eq=False)
class RoundRobin:
    """Each in turn; those with a higher ``x-priority`` first, as long as they have room."""

    _everyone: dict[Consumer, None] = attrs.field(factory=dict)
    _lines: list[tuple[int, deque[Consumer]]] = attrs.field(factory=list)
    """A line for each priority, highest first."""

    def add(self, consumer: Consumer) -> None:
        self._everyone[consumer] = None
        if all(priority != consumer.priority for priority, _line in self._lines):
            self._lines.append((consumer.priority, deque()))
            self._lines.sort(key=_negated)
        consumer.parked = True
        self.resume(consumer)

    def remove(self, consumer: Consumer) -> None:
        del self._everyone[consumer]
        line = self._line(consumer)
        if not consumer.parked:
            line.remove(consumer)
        if all(other.priority != consumer.priority for other in self._everyone):
            self._lines.remove((consumer.priority, line))
        consumer.parked = False

    def resume(self, consumer: Consumer) -> None:
        if consumer.parked:
            consumer.parked = False
            self._line(consumer).append(consumer)

    def take(self) -> Consumer | None:
        for _priority, line in self._lines:
            while line:
                consumer = line[0]
                if consumer.has_room():
                    line.rotate(-1)
                    return consumer
                consumer.parked = True
                line.popleft()
        return None

    def _line(self, consumer: Consumer) -> deque[Consumer]:
        return next(line for priority, line in self._lines if priority == consumer.priority)

    def __len__(self) -> int:
        return len(self._everyone)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._everyone)


def _negated(line: tuple[int, deque[Consumer]]) -> int:
    return -line[0]


@attrs.define(eq=False)
class SingleActive:
    """One serves, the others stand by (``x-single-active-consumer``).

    The first one stays until it goes; then it is the turn of the highest priority, oldest first.
    """

    _everyone: dict[Consumer, None] = attrs.field(factory=dict)
    _active: Consumer | None = None

    def add(self, consumer: Consumer) -> None:
        self._everyone[consumer] = None
        consumer.parked = False
        if self._active is None:
            self._active = consumer

    def remove(self, consumer: Consumer) -> None:
        del self._everyone[consumer]
        consumer.parked = False
        if consumer is self._active:
            self._active = max(self._everyone, key=_priority, default=None)

    def resume(self, consumer: Consumer) -> None:
        consumer.parked = False

    def take(self) -> Consumer | None:
        active = self._active
        if active is None or active.has_room():
            return active
        active.parked = True
        return None

    def __len__(self) -> int:
        return len(self._everyone)

    def __iter__(self) -> Iterator[Consumer]:
        return iter(self._everyone)


def _priority(consumer: Consumer) -> int:
    return consumer.priority
