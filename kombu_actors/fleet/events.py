"""What happens to messages and consumers, as frozen records beside those of ``supervisors.events``.

There is none for a message that is handled well: those are counted.
"""

from __future__ import annotations

from ..supervisors.events import Event

__all__ = [
    "ConsumerDeaf",
    "ConsumerHears",
    "ConsumerPaused",
    "ConsumerResumed",
    "DrainBegan",
    "HandlerStuck",
    "MessageDeadLettered",
    "MessageRetried",
    "MessageReturned",
    "MessageSnoozed",
    "OperatorActed",
]


class MessageRetried(Event):
    """A handler failed; the message comes again after ``delay`` seconds."""

    queue: str
    message_id: str
    failed: int
    """Attempts that have failed, this one included."""
    delay: float
    error: BaseException


class MessageSnoozed(Event):
    """A handler put a message off."""

    queue: str
    message_id: str
    delay: float


class MessageDeadLettered(Event):
    """A message is in the dead letters."""

    queue: str
    message_id: str
    attempts: int
    reason: str
    error: BaseException


class MessageReturned(Event):
    """A message could not be put into its delay, or the dead letters, or be answered; it is back in its queue."""

    queue: str
    message_id: str
    error: BaseException


class HandlerStuck(Event):
    """A plain function is over its time, and a thread can't be cancelled; ``stack`` is where it is."""

    queue: str
    message_id: str
    stack: tuple[str, ...]


class ConsumerPaused(Event):
    """A consumer takes no messages until it is resumed."""

    queue: str


class ConsumerResumed(Event):
    """A consumer that was paused goes on."""

    queue: str


class ConsumerDeaf(Event):
    """Messages wait for a consumer that has room, and none comes: a step is taken to have it hear them."""

    queue: str
    step: str
    """``degraded``: it is only said; then ``consumer``, ``channel``, ``session``: that is made anew; ``process``: the
    fleet ends with ``ConsumerIsDeaf``."""
    silent_for: float
    """Seconds since something came last."""
    waiting: int
    """Messages in the queue."""


class ConsumerHears(Event):
    """A consumer that was deaf gets messages again, or has none to get any more."""

    queue: str
    step: str
    """The step that was taken last."""
    silent_for: float
    """Seconds that it was without."""


class DrainBegan(Event):
    """The fleet takes no more messages, and ends when its handlers are done."""

    reason: str


class OperatorActed(Event):
    """Somebody has steered the fleet: paused a queue, restarted an actor, replayed dead letters."""

    action: str
    """What was done, or why it failed, in words."""
    who: str
    """From where: an address, or a user's name."""
