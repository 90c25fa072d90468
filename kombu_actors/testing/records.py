"""What a simulation keeps of what has happened, and what must not happen.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import attrs

__all__ = ["Attempt", "Book", "Fate", "Violation"]


class Violation(AssertionError):
    """A promise of the fleet was broken in a simulation; the notes say how to replay it."""


class Fate(Enum):
    """How one call of a handler ended."""

    HANDLED = "handled"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """By its timeout, the fleet's end, or a resource that went down."""


@attrs.frozen
class Attempt:
    """One message in one call of a handler."""

    queue: str
    message_id: str
    number: int
    """Which attempt the message said it was, from 1."""
    began: float
    ended: float
    """Both in seconds after the fleet was READY."""
    fate: Fate
    error: str = ""
    """Class name of what it raised."""


@attrs.frozen
class Retried:
    """A message was put into its delay, after so many failed attempts."""

    queue: str
    message_id: str
    failed: int


@attrs.define
class Book:
    """What has happened so far."""

    published: dict[str, str] = attrs.field(factory=dict)
    """By message id: the queue that the simulation published it to, and had confirmed."""
    attempts: list[Attempt] = attrs.field(factory=list)
    retried: list[Retried] = attrs.field(factory=list)
    dead: list[tuple[str, str]] = attrs.field(factory=list)
    """Queue and message id."""
    trace: list[str] = attrs.field(factory=list)

    def handled(self, queue: str) -> list[str]:
        """Ids of the messages that a handler of the queue has returned for, each once, in that order."""
        found = (one.message_id for one in self.attempts if one.queue == queue and one.fate is Fate.HANDLED)
        return list(dict.fromkeys(found))

    def dead_lettered(self, queue: str) -> list[str]:
        """Ids of the messages of the queue that were dead-lettered."""
        return list(dict.fromkeys(id for name, id in self.dead if name == queue))

    def check(self, waiting: Mapping[str, int], limits: Mapping[str, int]) -> None:
        """Raise ``Violation`` when a message was lost, or a retry forgot what it was.

        Args:
            waiting: by queue of the fleet: messages that are still there, or on their way.
            limits: by queue: attempts that its policy allows.
        """
        problems = [*self._lost(waiting, limits), *self._beyond(limits), *self._forgotten(waiting)]
        if problems:
            raise Violation("; ".join(problems[:5]))

    def _lost(self, waiting: Mapping[str, int], limits: Mapping[str, int]) -> Iterable[str]:
        done = {(one.queue, one.message_id) for one in self.attempts if one.fate is Fate.HANDLED} | {*self.dead}
        open = Counter(queue for id, queue in self.published.items() if queue in limits and (queue, id) not in done)
        for queue, count in open.items():
            if count > waiting.get(queue, 0):
                ids = [id for id, name in self.published.items() if name == queue and (queue, id) not in done]
                yield (
                    f"{count - waiting.get(queue, 0)} messages of queue {queue!r} were lost, of {ids[:5]}: neither "
                    "handled nor dead-lettered nor waiting"
                )

    def _beyond(self, limits: Mapping[str, int]) -> Iterable[str]:
        for one in self.attempts:
            most = limits.get(one.queue, one.number)
            if one.number > most:
                yield f"attempt {one.number} at message {one.message_id!r} of {one.queue!r}: its policy allows {most}"

    def _forgotten(self, waiting: Mapping[str, int]) -> Iterable[str]:
        """A message that was put off after k failures comes as attempt k + 1, unless it is still waiting."""
        seen = {(one.queue, one.message_id, one.number) for one in self.attempts}
        for one in self.retried:
            if (one.queue, one.message_id, one.failed + 1) not in seen and not waiting.get(one.queue):
                yield f"message {one.message_id!r} of {one.queue!r} never came as attempt {one.failed + 1}"

    def attempts_of(self, queue: str | None) -> Sequence[Attempt]:
        """All attempts, or those at one queue's messages."""
        return [one for one in self.attempts if queue is None or one.queue == queue]
