"""What a handler may say of a message, and what is decided about one whose handler failed.  Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import attrs

from ._headers import said_by
from .errors import FleetMistake, PayloadError

__all__ = [
    "Batch",
    "DeadLettered",
    "Decision",
    "Depends",
    "Reject",
    "Retry",
    "RetryLater",
    "Snooze",
    "SnoozeFor",
    "decide",
]

DELAY_MAX = 30 * 24 * 3600.0
"""Seconds that a message may wait for: TTLs of brokers go to 49 days, a deployment rarely lasts as long."""

HANDLER_TIMEOUT = 1500.0
"""Seconds for one handler: RabbitMQ closes the channel of a consumer that keeps a message for 30 minutes."""
DEAF_AFTER = 30.0
"""Seconds: heartbeats find a connection that is gone within them; what is left is a consumer that only looks well."""


class Reject(Exception):
    """Raised by a handler: this message is dead-lettered at once, with the reason."""

    def __init__(self, reason: str = "rejected by its handler") -> None:
        super().__init__(reason)
        self.reason = reason


class Condemned(Reject):
    """Raised in the handler's place: the message was in hand when processes died."""


class Snooze(Exception):
    """Raised by a handler: not now, try this message again in so many seconds.  It is no attempt.

    Longer than 30 days is a ``ValueError``; the delay is kept to two significant digits.
    """

    def __init__(self, seconds: float) -> None:
        check_delay("Snooze", seconds)
        super().__init__(f"snoozed for {seconds:g} s")
        self.seconds = seconds


def check_delay(where: str, seconds: object) -> None:
    """Raise ``FleetMistake`` when a message can't wait that long."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= DELAY_MAX:
        raise FleetMistake(f"{where} takes seconds above 0, and at most {DELAY_MAX:g} (30 days), not {seconds!r:.80}")


def _delays(value: object) -> tuple[float, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise FleetMistake(f"Retry(delays=...) takes the seconds before each further attempt, not {value!r:.80}")
    delays = tuple(value)
    for seconds in delays:
        check_delay("Retry(delays=...)", seconds)
    return delays


def _classes(value: object) -> tuple[type[Exception], ...]:
    classes = tuple(value) if isinstance(value, Iterable) else (value,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise FleetMistake(f"Retry(give_up_on=...) takes exception classes, not {one!r:.80}")
    return classes


@attrs.frozen
class Retry:
    """When a message whose handler failed is tried again.

    ``delays`` are the seconds before each further attempt: with the default's four a message is tried five times within
    a little more than eleven minutes, from a blip to a restart of what the handler depends on.  After the last one it
    is dead-lettered.  Empty: the first failure is the last.  The delays are kept to the millisecond, and there is no
    jitter: each of them is a queue at the broker, and the messages of one delay keep their order.

    An error of a class in ``give_up_on`` (or a subclass) is not tried again.
    """

    delays: tuple[float, ...] = attrs.field(default=(1, 10, 60, 600), converter=_delays)
    give_up_on: tuple[type[Exception], ...] = attrs.field(default=(), converter=_classes, kw_only=True)

    @property
    def total(self) -> float:
        """Seconds from the first failure to the last attempt, the handlers' own time left out."""
        return math.fsum(self.delays)


def _size(_: object, __: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise FleetMistake(f"Batch(size=...) is a number of messages from 1 to 10000, not {value!r:.80}")


def _within(_: object, __: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3600:
        raise FleetMistake(f"Batch(within=...) is seconds above 0 and up to 3600, not {value!r:.80}")


@attrs.frozen(kw_only=True)
class Batch:
    """The handler gets a list: ``size`` messages, or what has come ``within`` seconds of the first one.

    10,000 is the largest size: the broker keeps as many unsettled for each handler.
    """

    size: int = attrs.field(default=100, validator=_size)
    within: float = attrs.field(default=1.0, validator=_within)


@attrs.frozen
class Depends:
    """``Annotated[Pool, Depends(pool)]``: this parameter gets what the resource function ``pool`` yields."""

    resource: Callable[..., object]


@attrs.frozen
class RetryLater:
    """Try again after ``delay`` seconds; ``failed`` attempts have been made then."""

    delay: float
    failed: int


@attrs.frozen
class DeadLettered:
    """Into the dead letters, for this reason; ``attempts`` were made."""

    reason: str
    attempts: int
    kind: Literal["failed", "rejected", "condemned", "undecodable", "given_up"] = "failed"


@attrs.frozen
class SnoozeFor:
    """Try again after ``delay`` seconds, as if it had not been tried."""

    delay: float


Decision = RetryLater | DeadLettered | SnoozeFor


def decide(retry: Retry, failed: int, error: Exception) -> Decision:
    """What becomes of a message whose handler raised ``error`` after ``failed`` failed attempts before."""
    if isinstance(error, Snooze):
        return SnoozeFor(error.seconds)
    attempts = failed + 1
    if isinstance(error, Reject):
        return DeadLettered(error.reason, attempts, "condemned" if isinstance(error, Condemned) else "rejected")
    if isinstance(error, PayloadError):
        return DeadLettered(f"undecodable: {error}", attempts, "undecodable")
    if isinstance(error, retry.give_up_on):
        return DeadLettered(f"not tried again: {said_by(error)}", attempts, "given_up")
    if failed < len(retry.delays):
        return RetryLater(retry.delays[failed], attempts)
    how = "failed" if attempts == 1 else f"failed {attempts} times, at last"
    return DeadLettered(f"{how}: {said_by(error)}", attempts)
