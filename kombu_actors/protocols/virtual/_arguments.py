"""What the ``x-`` arguments of ``queue.declare`` mean, and which values RabbitMQ takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from ..._values.model import QueueSpec
from .._content import MAX_EXPIRATION
from ._errors import Named, inequivalent, invalid_argument, precondition_failed, wire_type

UNLIMITED: Final = 1 << 62
"""Stands for no limit, so that hot paths compare instead of asking whether there is a limit."""


@attrs.frozen(kw_only=True)
class QueuePolicy:
    """The arguments of one queue, understood.

    A queue without ``max_length`` and ``max_bytes`` is unlimited, as in RabbitMQ; what bounds it
    then is the broker's memory alarm, which stops its publishers.
    """

    lifetime: float | None = None
    """``x-message-ttl`` in seconds."""
    idle_limit: float | None = None
    """``x-expires`` in seconds: a queue unused for this long is deleted."""
    max_length: int = UNLIMITED
    max_bytes: int = UNLIMITED
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    max_priority: int | None = None
    single_active: bool = False
    quorum: bool = False
    """Declared as a quorum queue: counts deliveries; being alone, it has no other nodes to ask."""
    delivery_limit: int | None = None
    bounded: bool = attrs.field(init=False)

    @bounded.default
    def _has_limits(self) -> bool:
        return self.max_length < UNLIMITED or self.max_bytes < UNLIMITED


def queue_policy(spec: QueueSpec, what: Named) -> QueuePolicy:
    """Understand the arguments of a declaration; raises 406 with RabbitMQ's reason.

    Arguments that RabbitMQ does not know are kept and ignored, as it does.
    """
    arguments = spec.arguments
    quorum = _queue_type(spec, what) == "quorum"
    for name, check in _CHECKS.items():
        if name in arguments:
            if name in (_CLASSIC_ONLY if quorum else _QUORUM_ONLY):
                kind = "quorum" if quorum else "classic"
                raise precondition_failed(f"invalid arg '{name}' for {what} of queue type rabbit_{kind}_queue")
            check(name, arguments[name], what)
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise invalid_argument("x-dead-letter-routing-key", what, "routing_key_but_no_dlx_defined")
    return QueuePolicy(
        lifetime=_seconds(arguments.get("x-message-ttl")),
        idle_limit=_seconds(arguments.get("x-expires")),
        max_length=arguments.get("x-max-length", UNLIMITED),
        max_bytes=arguments.get("x-max-length-bytes", UNLIMITED),
        overflow=arguments.get("x-overflow", "drop-head"),
        dead_letter_exchange=arguments.get("x-dead-letter-exchange"),
        dead_letter_key=arguments.get("x-dead-letter-routing-key"),
        max_priority=arguments.get("x-max-priority"),
        single_active=arguments.get("x-single-active-consumer", False),
        quorum=quorum,
        delivery_limit=arguments.get("x-delivery-limit"),
    )


def check_equivalent(
    known: tuple[str, ...], what: Named, received: Mapping[str, object], current: Mapping[str, object]
) -> None:
    """Raise 406 unless a redeclaration's known arguments are those of the first declaration."""
    for name in known:
        new, old = received.get(name), current.get(name)
        if new != old or type(new) is not type(old):
            raise inequivalent(name, what, new, old)


def _queue_type(spec: QueueSpec, what: Named) -> str:
    kind = spec.arguments.get("x-queue-type", "classic")
    if not isinstance(kind, str):
        raise invalid_argument("x-queue-type", what, f"{{unacceptable_type,{wire_type(kind)}}}")
    if kind not in ("classic", "quorum"):
        raise invalid_argument("x-queue-type", what, f"\"unsupported queue type '{kind}'\"")
    if kind == "quorum":
        broken = {"non-durable": not spec.durable, "auto-delete": spec.auto_delete, "exclusive-owner": spec.exclusive}
        for fault, present in broken.items():
            if present:
                raise precondition_failed(f"invalid property '{fault}' for {what}")
    return kind


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _not_negative(name: str, value: object, what: Named) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_argument(name, what, f'"expected integer, got {wire_type(value)}"')
    if value < 0:
        raise invalid_argument(name, what, f"{{value_negative,{value}}}")
    return value


def _milliseconds(name: str, value: object, what: Named) -> None:
    if _not_negative(name, value, what) > MAX_EXPIRATION:
        raise invalid_argument(name, what, f"{{value_too_large,{value}}}")


def _milliseconds_above_zero(name: str, value: object, what: Named) -> None:
    _milliseconds(name, value, what)
    if value == 0:
        raise invalid_argument(name, what, "{value_zero,0}")


def _priority(name: str, value: object, what: Named) -> None:
    if _not_negative(name, value, what) > 255:
        raise invalid_argument(name, what, f"{{max_value_exceeded,{value}}}")


def _text(name: str, value: object, what: Named) -> None:
    if not isinstance(value, str):
        raise invalid_argument(name, what, f"{{unacceptable_type,{wire_type(value)}}}")


def _exchange_name(name: str, value: object, what: Named) -> None:
    if not isinstance(value, str):
        place = str(what).replace("queue", "in queue", 1)
        raise precondition_failed(f"invalid type '{wire_type(value)}' for arg '{name}' {place}")


def _overflow(name: str, value: object, what: Named) -> None:
    _text(name, value, what)
    if value not in ("drop-head", "reject-publish", "reject-publish-dlx"):
        raise invalid_argument(name, what, "invalid_overflow")


def _mode(name: str, value: object, what: Named) -> None:
    _text(name, value, what)
    if value not in ("default", "lazy"):
        raise invalid_argument(name, what, f"\"unsupported queue mode '{value}'\"")


def _flag(name: str, value: object, what: Named) -> None:
    if not isinstance(value, bool):
        raise invalid_argument(name, what, f"{{unacceptable_type,{wire_type(value)}}}")


_CHECKS: Final[dict[str, Callable[[str, object, Named], object]]] = {
    "x-expires": _milliseconds_above_zero,
    "x-message-ttl": _milliseconds,
    "x-dead-letter-exchange": _exchange_name,
    "x-dead-letter-routing-key": _text,
    "x-max-length": _not_negative,
    "x-max-length-bytes": _not_negative,
    "x-max-priority": _priority,
    "x-overflow": _overflow,
    "x-queue-mode": _mode,
    "x-single-active-consumer": _flag,
    "x-delivery-limit": _not_negative,
}
_CLASSIC_ONLY: Final = ("x-max-priority", "x-queue-mode")
_QUORUM_ONLY: Final = ("x-delivery-limit",)

KNOWN_QUEUE_ARGUMENTS: Final = (*_CHECKS, "x-queue-type")
KNOWN_EXCHANGE_ARGUMENTS: Final = ("alternate-exchange",)
