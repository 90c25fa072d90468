"""What ``transport_options`` mean to Redis: kombu 5.7's options under kombu's names, and our own.

Values may be given as text, as query parameters of a URL are.  Options about sockets and sentinels are
checked here by name and type only; what dials reads them again.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from .envelope import BODY_ENCODINGS
from .layout import DEFAULT_FANOUT_PREFIX, Layout

__all__ = ["KNOWN", "UNUSED", "RedisOptions", "understood"]

DEFAULT_LEASE: Final = 15.0
"""Seconds.  Three beats of 5 s may be lost before others take the process for dead; RabbitMQ's clients, with
heartbeats of the same length, are given up no sooner."""
PREFETCH_LIMIT: Final = 1000
"""Enough that a round trip isn't felt, few enough that other consumers find something left."""
QUEUE_ORDERS: Final = ("round_robin", "sorted", "priority")
_TRUE: Final = ("true", "yes", "on", "1")
_FALSE: Final = ("false", "no", "off", "0")


def _bad(name: str, value: object, wanted: str) -> ValueError:
    return ValueError(f"transport option {name} must be {wanted}, not {value!r:.80}")


def _flag(name: str, value: object) -> bool:
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    if not isinstance(value, bool):
        raise _bad(name, value, "True or False")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _bad(name, value, "text")
    return value


def _named(name: str, value: object) -> str:
    if not _text(name, value):
        raise _bad(name, value, "a name, not empty")
    return str(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _bad(name, value, "a number") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _bad(name, value, "a number")
    return value


def _seconds(name: str, value: object) -> float:
    seconds = _number(name, value)
    if seconds <= 0:
        raise _bad(name, value, "a number of seconds above 0")
    return float(seconds)


def _whole_from(lowest: int) -> Callable[[str, object], int]:
    def whole(name: str, value: object) -> int:
        number = _number(name, value)
        if number != int(number) or number < lowest:
            raise _bad(name, value, f"a whole number from {lowest} on")
        return int(number)

    return whole


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def choice(name: str, value: object) -> str:
        if value not in choices:
            raise _bad(name, value, f"one of {', '.join(choices)}")
        return str(value)

    return choice


def _steps(name: str, value: object) -> tuple[int, ...]:
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        raise _bad(name, value, "a list of numbers, such as [0, 3, 6, 9]")
    whole = _whole_from(0)
    return tuple(whole(name, step) for step in given)


def _fanout_prefix(name: str, value: object) -> str:
    """True is kombu's own prefix, False none at all."""
    switch = _flag(name, value) if not isinstance(value, str) or value.lower() in (*_TRUE, *_FALSE) else None
    if switch is None:
        return str(value)
    return DEFAULT_FANOUT_PREFIX if switch else ""


def _body_encoding(name: str, value: object) -> str | None:
    if isinstance(value, str) and value.lower() in ("", "none"):
        return None
    if value not in BODY_ENCODINGS:
        raise _bad(name, value, "'base64', 'utf-8' or None")
    return None if value is None else str(value)


def _never(name: str, value: object) -> bool:
    if _flag(name, value):
        raise ValueError(
            f"transport option {name} is for fleets with kombu before 5.4 in them, whose broadcasts went to another"
            " topic; they can't be mixed with this library: upgrade them first, then remove the option"
        )
    return False


def _as_given(name: str, value: object) -> object:
    return value


_LAYOUT: Final[Mapping[str, Callable[[str, object], object]]] = {
    "sep": _named,
    "unacked_key": _named,
    "unacked_index_key": _named,
    "fanout_prefix": _fanout_prefix,
    "fanout_patterns": _flag,
    "global_keyprefix": _text,
    "priority_steps": _steps,
    "priority_order": _one_of("kombu", "amqp"),
}
_BEHAVIOUR: Final[Mapping[str, Callable[[str, object], object]]] = {
    "visibility_timeout": _seconds,
    "lease": _seconds,
    "queue_order_strategy": _one_of(*QUEUE_ORDERS),
    "body_encoding": _body_encoding,
    "deadletter_queue": _named,
    "durable_fanout": _flag,
    "confirm_replicas": _whole_from(0),
    "prefetch_limit": _whole_from(1),
}
_DIALLING: Final[Mapping[str, Callable[[str, object], object]]] = {
    "socket_timeout": _number,
    "socket_connect_timeout": _number,
    "socket_keepalive": _flag,
    "socket_keepalive_options": _as_given,
    "health_check_interval": _number,
    "client_name": _text,
    "master_name": _named,
    "min_other_sentinels": _whole_from(0),
    "sentinel_kwargs": _as_given,
    "sentinel_fanout_compat": _never,
}
"""What the transport that dials makes of these is its business; here they become values."""
UNUSED: Final[Mapping[str, str]] = {
    "ack_emulation": "every message that isn't no_ack is kept until it is acknowledged",
    "unacked_mutex_key": "restoring is one step on the server and needs no lock",
    "unacked_mutex_expire": "restoring is one step on the server and needs no lock",
    "unacked_restore_limit": "at most 10 messages of stock kombu are restored in one step",
    "unacked_restore_interval": "stock kombu's overdue messages are looked for with every beat of the lease",
    "unacked_restore_throttle": "stock kombu's overdue messages are looked for with every beat of the lease",
    "max_connections": "a connection is two sockets, whatever is done with it",
    "retry_on_timeout": "a command whose fate is unknown is never repeated; supervision connects anew",
    "reauth_check_interval": "credentials are asked for at each connect",
    "polling_interval": "the server tells of arrivals; where it can't, lists are looked at every 0.1 s",
}
"""kombu's options that are taken and change nothing here, and why."""
_ELSEWHERE: Final = frozenset({
    "client_properties", "frame_max", "channel_max", "body_max", "confirm_publish", "call_timeout", "drain_timeout",
    "on_refused", "tell_lost",
    "max_retries", "interval_start", "interval_step", "interval_max", "errback", "callback", "connect_retries_timeout",
    "manager_hostname", "manager_port", "manager_userid", "manager_password",
})  # fmt: skip
"""Options of every transport, which others read."""
_CONVERTERS: Final = {**_LAYOUT, **_BEHAVIOUR, **_DIALLING}
KNOWN: Final = frozenset({*_CONVERTERS, *UNUSED, *_ELSEWHERE})
_NOT_NONE: Final = frozenset(_CONVERTERS) - {"body_encoding"}


def understood(options: Mapping[str, object]) -> dict[str, Any]:
    """The options as values, text turned into what it says; None, where it is no value, is not given.

    Raises:
        ValueError: an unknown name, or a value that can't be used.
    """
    found: dict[str, object] = {}
    for name, value in options.items():
        if name not in KNOWN:
            close = difflib.get_close_matches(str(name), sorted(KNOWN), 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted({*_CONVERTERS, *UNUSED}))}"
            raise ValueError(f"transport option {name!r:.80} is unknown to Redis: {hint}")
        if name not in _CONVERTERS:
            found[name] = value
        elif value is not None or name not in _NOT_NONE:
            found[name] = _CONVERTERS[name](name, value)
    return found


@attrs.frozen(kw_only=True)
class RedisOptions:
    """The options of one connection that say how it uses Redis."""

    layout: Layout = attrs.field(factory=Layout)
    """Names; ``layout_in`` has them for a database."""
    visibility_timeout: float = 3600.0
    """Seconds after which others may take an unacknowledged message for abandoned (kombu's default).

    Renewed as long as the process lives, so it matters for stock kombu's messages and to stock kombu, which
    should have the same.
    """
    lease: float = DEFAULT_LEASE
    """Seconds without a sign of life after which a process counts as dead and its messages go back."""
    queue_order_strategy: str = "round_robin"
    """Which queue is asked first when a channel consumes from several: each in turn (``round_robin``), in
    alphabetical order (``sorted``) or in the order of consuming (``priority``).  It decides among messages of one
    priority step: the most urgent step is served over all queues before the next, as in kombu."""
    body_encoding: str | None = "base64"
    """How bodies are written: ``base64`` (kombu's default, and the one that any body survives), or
    ``utf-8`` or None for text as it is, which is shorter."""
    deadletter_queue: str | None = None
    """Takes messages that no queue would (kombu's option; it never loses one silently)."""
    durable_fanout: bool = False
    """Whether queues bound to fanout exchanges get messages while nobody listens.  Off, as in kombu: such a
    queue grows for as long as its consumer is away."""
    confirm_replicas: int = 0
    """Replicas that must have a publish before it is confirmed (``WAIT``); 0 confirms what the primary has."""
    prefetch_limit: int = PREFETCH_LIMIT
    """Messages a consumer without prefetch holds at most."""

    @classmethod
    def from_mapping(cls, options: Mapping[str, object]) -> RedisOptions:
        """Understand ``transport_options``.

        Raises:
            ValueError: an unknown name or a value that can't be used; says which, and what can.
        """
        found = understood(options)
        behaviour = {name: found[name] for name in _BEHAVIOUR if name in found}
        timeout = behaviour.get("visibility_timeout", cls().visibility_timeout)
        lease = behaviour.setdefault("lease", min(DEFAULT_LEASE, timeout))
        if lease > timeout:
            raise ValueError(
                f"transport option lease must not be above visibility_timeout ({timeout:g} s), not {lease:g}:"
                " messages would be taken for abandoned before their owner is"
            )
        return cls(layout=Layout(**{name: found[name] for name in _LAYOUT if name in found}), **behaviour)

    def layout_in(self, database: int) -> Layout:
        """The names in one database."""
        return attrs.evolve(self.layout, database=database)
