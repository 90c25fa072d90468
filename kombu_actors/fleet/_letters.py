"""A dead letter, as read from its queue, and which of many are meant.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

import attrs

from ..broker import Delivered, QueueSpec
from ._headers import DEAD_AT, ERROR, FIRST_AT, HANDLER, QUEUE, REASON, STACK, failed_attempts, first_failed_at
from .documents import DeadLetterDocument
from .errors import FleetMistake

__all__ = ["Criteria", "DeadLetter", "dead_letter_queue", "letter_of"]

SHOWN = 200
"""Characters of a body in a letter's repr and in what it is as JSON: what fits a few lines."""


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A message that was given up: what it is, and why."""

    id: str
    """Its ``message_id``; empty when another program's message has none."""
    queue: str
    """Its home queue, where a replay sends it."""
    error: str
    """Class name of the last error; empty when the broker itself dead-lettered it."""
    reason: str
    """Why it is dead, a sentence."""
    attempts: int
    """How often it was tried."""
    first_at: float | None
    """When it failed for the first time, seconds since 1970."""
    dead_at: float | None
    """When it was dead-lettered; None: not by a fleet."""
    handler: str
    """``module.function`` of the handler."""
    stack: str = attrs.field(repr=False)
    """The last traceback, its end if it was long."""
    body: bytes = attrs.field(repr=False)
    """As it was published."""
    content_type: str
    headers: Mapping[str, object] = attrs.field(repr=False)
    """The publisher's own, and the broker's."""
    _delivered: Delivered = attrs.field(repr=False, eq=False)

    @property
    def payload(self) -> object:
        """The body, decoded; raises ``DecodeError`` or ``ContentDisallowed`` (JSON is allowed)."""
        return self._delivered.payload

    def to_dict(self) -> DeadLetterDocument:
        """What JSON can take of it, for people: the body's beginning only."""
        return {
            "id": self.id,
            "queue": self.queue,
            "error": self.error,
            "reason": self.reason,
            "attempts": self.attempts,
            "first_at": self.first_at,
            "dead_at": self.dead_at,
            "handler": self.handler,
            "stack": self.stack,
            "content_type": self.content_type,
            "body": self.body[: 4 * SHOWN].decode(errors="replace")[:SHOWN],
            "size": len(self.body),
        }


def dead_letter_queue(name: str) -> QueueSpec:
    """The queue for dead letters, where there is none.  Classic, whatever the virtual host's default: a quorum queue
    counts each look at a message as a delivery, and RabbitMQ 4 drops what has been delivered 20 times."""
    return QueueSpec(name=name, type="classic")


def letter_of(message: Delivered, home: str) -> DeadLetter:
    """Read one; ``home`` is the queue whose dead letters these are, for messages that don't say."""
    headers = message.headers
    return DeadLetter(
        id=message.message_id or "",
        queue=_text(headers, QUEUE) or _first_death(headers, "queue") or home,
        error=_text(headers, ERROR),
        reason=_text(headers, REASON) or _first_death(headers, "reason"),
        attempts=failed_attempts(headers),
        first_at=first_failed_at(headers) if FIRST_AT in headers else None,
        dead_at=_number(headers, DEAD_AT),
        handler=_text(headers, HANDLER),
        stack=_text(headers, STACK),
        body=message.body,
        content_type=message.content_type or "",
        headers={name: value for name, value in headers.items() if not name.startswith("ka-")},
        delivered=message,
    )


def _text(headers: Mapping[str, object], name: str) -> str:
    value = headers.get(name)
    return value if isinstance(value, str) else ""


def _number(headers: Mapping[str, object], name: str) -> float | None:
    value = headers.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _first_death(headers: Mapping[str, object], name: str) -> str:
    """What the broker's own header says of a message that it has dead-lettered itself."""
    return _text(headers, f"x-first-death-{name}")


def _several(value: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(value, str):
        raise FleetMistake(f"ids= takes several ids, [{value!r:.80}] for one")
    return None if value is None else frozenset(value)


def _seconds(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and (type(value) not in (int, float) or not value >= 0):
        raise FleetMistake(f"{attribute.name}= takes seconds from 0 on, not {value!r:.80}")


@attrs.frozen(kw_only=True)
class Criteria:
    """Which dead letters are meant: those that all of these hold for."""

    error: str | None = None
    """Class name of the last error."""
    handler: str | None = None
    """``module.function``, or its last parts."""
    older_than: float | None = attrs.field(default=None, validator=_seconds)
    """Seconds since it was dead-lettered, at least."""
    newer_than: float | None = attrs.field(default=None, validator=_seconds)
    """Seconds since it was dead-lettered, at most."""
    ids: frozenset[str] | None = attrs.field(default=None, converter=_several)
    where: Callable[[DeadLetter], bool] | None = None

    def hold_for(self, letter: DeadLetter, now: float) -> bool:
        """Whether a letter is meant; ``now`` in seconds since 1970.  One that has no date is of any age."""
        age = None if letter.dead_at is None else now - letter.dead_at
        return (
            (self.error is None or self.error == letter.error)
            and (self.handler is None or f".{letter.handler}".endswith(f".{self.handler}"))
            and (age is None or (self.older_than or 0.0) <= max(age, 0.0))
            and (age is None or age <= (math.inf if self.newer_than is None else self.newer_than))
            and (self.ids is None or letter.id in self.ids)
            and (self.where is None or self.where(letter))
        )

    @property
    def all(self) -> bool:
        """Whether every letter is meant."""
        return self == Criteria()
