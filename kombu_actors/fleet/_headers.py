"""What is written on a message that is tried again, is dead, or answers with an error.  Pure.

The names don't begin with ``x-``: those are the broker's.  A failed message is published again as it came (body,
content type and properties), with these headers added; so whoever reads it with another library finds what it knows.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import attrs

from ..broker import Delivered, MessageProperties

ATTEMPT = "ka-attempt"
"""Failed attempts so far; absent: none.  On a dead letter: attempts made."""
FIRST_AT = "ka-first-at"
"""When the first attempt failed, seconds since 1970."""
QUEUE = "ka-queue"
"""The queue that it belongs to."""
ERROR = "ka-error"
"""The class name of the last error; on a reply: that it is an error."""
REASON = "ka-reason"
"""A sentence: why it is dead, or what the last error said."""
DEAD_AT = "ka-dead-at"
"""When it was dead-lettered, seconds since 1970."""
HANDLER = "ka-handler"
"""``module.function`` of the handler that failed."""
STACK = "ka-stack"
"""The last error's traceback, its end where it is too long."""

NAME_MAX, REASON_MAX, STACK_MAX = 200, 1024, 8 * 1024
"""Bytes.  All headers of a message must fit one frame, which RabbitMQ has at 128 KiB: ours take 10 at most."""
DROPPED = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "x-stream-offset")
"""Headers of the broker's own about where the message was: it writes them anew."""
KEPT_PROPERTIES = ("priority", "message_id", "correlation_id", "reply_to", "timestamp", "type", "app_id")
"""Not ``user_id``, which the broker refuses from anyone else, nor ``expiration``, which would end the delay early."""


def failed_attempts(headers: Mapping[str, object]) -> int:
    """How often the message has failed before; what others have written there is no number of ours."""
    value = headers.get(ATTEMPT)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def first_failed_at(headers: Mapping[str, object]) -> float | None:
    """When it failed for the first time, seconds since 1970; None when it has not."""
    value = headers.get(FIRST_AT)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@attrs.frozen(kw_only=True)
class Copy:
    """A message as it is published again: ``broker.publish(copy.body, **copy.arguments)``."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, object]
    properties: MessageProperties
    persistent: bool = True


def copy_of(message: Delivered, message_id: str, headers: Mapping[str, object]) -> Copy:
    """The same message with other headers of ours; ``message_id`` where it has none."""
    kept = {name: value for name, value in message.headers.items() if not name.startswith(DROPPED)}
    kept.update(headers)
    properties: MessageProperties = {}
    for name in KEPT_PROPERTIES:
        value = message.properties.get(name)
        if value is not None:
            properties[name] = value  # type: ignore[literal-required]  # the names are those of the TypedDict
    properties["message_id"] = message_id
    return Copy(
        body=message.body,
        content_type=message.content_type or "application/data",
        content_encoding=str(message.properties.get("content_encoding") or "binary"),
        headers=kept,
        properties=properties,
    )


def retry_headers(*, queue: str, failed: int, first_at: float, error: BaseException, handler: str) -> dict[str, object]:
    """What a message that is tried again carries."""
    return {
        ATTEMPT: failed,
        FIRST_AT: first_at,
        QUEUE: cut(queue, NAME_MAX),
        ERROR: cut(type(error).__name__, NAME_MAX),
        REASON: cut(text_of(error), REASON_MAX),
        HANDLER: cut(handler, NAME_MAX),
    }


def dead_headers(
    *, queue: str, attempts: int, first_at: float, dead_at: float, error: BaseException, reason: str, handler: str
) -> dict[str, object]:
    """What a dead letter carries."""
    return {
        ATTEMPT: attempts,
        FIRST_AT: first_at,
        DEAD_AT: dead_at,
        QUEUE: cut(queue, NAME_MAX),
        ERROR: cut(type(error).__name__, NAME_MAX),
        REASON: cut(reason, REASON_MAX),
        HANDLER: cut(handler, NAME_MAX),
        STACK: stack_of(error),
    }


def error_headers(error: BaseException) -> dict[str, object]:
    """What makes a reply an error: its body is the text, as JSON."""
    return {ERROR: cut(type(error).__name__, NAME_MAX), REASON: cut(text_of(error), REASON_MAX)}


def text_of(error: BaseException) -> str:
    """What an error says; an error may fail at that, too."""
    try:
        return str(error)
    except Exception as second:
        return f"(its text can't be had: {type(second).__name__})"


def said_by(error: BaseException) -> str:
    """An error in a sentence: ``KeyError: 'tea'``."""
    name, text = type(error).__name__, text_of(error)
    return f"{name}: {text}" if text else name


def stack_of(error: BaseException) -> str:
    """The traceback, from the end: the innermost frames and the error itself are what one looks for."""
    lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-30)
    data = "".join(lines).encode(errors="replace")
    if len(data) <= STACK_MAX:
        return data.decode()
    return "... " + data[-(STACK_MAX - 4) :].decode(errors="ignore")


def cut(text: str, most: int) -> str:
    """At most so many bytes of it, whole characters."""
    data = text.encode(errors="replace")
    return data.decode() if len(data) <= most else data[: most - 4].decode(errors="ignore") + " ..."
