"""The values that travel between layers: what was declared, what was delivered.

Frozen, comparable, free of any transport.  Entities are identified by these values when
the topology is replayed, so equality here *is* the identity of an entity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

import attrs

Arguments = Mapping[str, Any]
Properties = Mapping[str, Any]
"""Message properties under AMQP's names, with the application headers under ``headers``."""


def freeze(value: Any) -> Any:
    """Turn nested dicts and lists into hashable tuples, for comparing argument tables."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return (type(value).__name__, value)


def _copied(arguments: Arguments | None) -> dict[str, Any]:
    return dict(arguments or {})


@attrs.frozen(kw_only=True)
class ExchangeSpec:
    """An exchange as declared."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Arguments = attrs.field(factory=dict, converter=_copied, eq=freeze)


@attrs.frozen(kw_only=True)
class QueueSpec:
    """A queue as declared; an empty name asks the broker to choose one."""

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Arguments = attrs.field(factory=dict, converter=_copied, eq=freeze)


class BindingKind(Enum):
    """What a binding leads to."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


@attrs.frozen(kw_only=True)
class BindingSpec:
    """A binding, identified by everything it was made with (arguments included)."""

    kind: BindingKind
    source: str
    destination: str
    routing_key: str = ""
    arguments: Arguments = attrs.field(factory=dict, converter=_copied, eq=freeze)


@attrs.frozen(kw_only=True)
class ConsumerSpec:
    """A subscription as wished for; the tag is the client's and stays over restarts."""

    tag: str
    queue: str
    no_ack: bool = False
    exclusive: bool = False
    no_local: bool = False
    arguments: Arguments = attrs.field(factory=dict, converter=_copied, eq=freeze)


def _at_most(most: int) -> Callable[[Any, Any, object], None]:
    def check(_: Any, attribute: Any, value: object) -> None:
        if not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"{attribute.name} must be a number from 0 (no limit) to {most}, not {value!r:.80}")

    return check


@attrs.frozen(eq=False)
class QoS:
    """How much the broker may deliver unacknowledged (``basic.qos``); 0 is no limit."""

    prefetch_count: int = attrs.field(default=0, validator=_at_most(0xFFFF))
    prefetch_size: int = attrs.field(default=0, validator=_at_most(0xFFFFFFFF))
    apply_global: bool = False


class QueueInfo(NamedTuple):
    """What ``queue.declare-ok`` says."""

    name: str
    messages: int
    consumers: int


class Delivery(NamedTuple):
    """One message as it came from the broker (``basic.deliver``, ``basic.get-ok``)."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    """Shared between messages whose properties are the same bytes: never change it."""
    body: bytes


class Returned(NamedTuple):
    """A mandatory message that no queue took (``basic.return``)."""

    code: int
    text: str
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    body: bytes


BODY_MAX: Final = 128 * 1024 * 1024
"""Bytes of the largest message body, sent or received, unless the option ``body_max`` says otherwise.

It is RabbitMQ's own default limit before 4.0 (16 MiB since): what a broker has taken from others is taken here, and
what one message may cost the process is bounded all the same."""


@attrs.frozen(kw_only=True)
class RefusedPublish:
    """A publish that the broker refused, or that was given up, when nobody waited for its outcome."""

    exchange: str
    routing_key: str
    properties: Mapping[str, Any]
    """As a receiver would have seen them, under AMQP's names."""
    body: bytes
    error: BaseException
    """The broker's refusal (``PreconditionFailed``, ``NotFound``, ``PublishRefused``, ...), or ``PublishUnknown``."""


class Sent(Enum):
    """How much of a frame left at once."""

    NOTHING = "nothing"
    PART = "part"
    """The rest leaves when the link is flushed in its own thread."""
    ALL = "all"


class Outcome(Enum):
    """What became of a publish."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Action(Enum):
    """What a consumer decided about a delivery."""

    ACK = "ack"
    REJECT = "reject"
    DISCARD = "discard"
    REQUEUE = "requeue"
