"""kombu's options of queues in the broker's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..utils.time import maybe_s_to_ms

__all__ = ["RABBITMQ_QUEUE_ARGUMENTS", "to_rabbitmq_queue_arguments"]

RABBITMQ_QUEUE_ARGUMENTS: Final[Mapping[str, tuple[str, Callable[[float], int | None]]]] = {
    "expires": ("x-expires", maybe_s_to_ms),
    "message_ttl": ("x-message-ttl", maybe_s_to_ms),
    "max_length": ("x-max-length", int),
    "max_length_bytes": ("x-max-length-bytes", int),
    "max_priority": ("x-max-priority", int),
}
"""kombu's options, those of time in seconds -> RabbitMQ's arguments, in milliseconds."""


def to_rabbitmq_queue_arguments(arguments: Mapping[str, object] | None, **options: float | None) -> dict[str, object]:
    """A copy of the arguments with those for the options that are given; ``KeyError`` for an unknown option."""
    prepared = dict(arguments or {})
    for option, value in options.items():
        if value is not None:
            name, convert = RABBITMQ_QUEUE_ARGUMENTS[option]
            prepared[name] = convert(value)
    return prepared
