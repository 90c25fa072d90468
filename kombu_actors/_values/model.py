"""The values that travel between layers: what was declared, what was delivered.

Frozen, comparable, free of any transport.  Entities are identified by these values when
the topology is replayed, so equality here *is* the identity of an entity.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Literal

from .._frozen import Frozen, Record
from ..utils.time import milliseconds

Arguments = Mapping[str, Any]
Properties = Mapping[str, object]
"""Message properties under AMQP's names, with the application headers under ``headers``."""


def freeze(value: object) -> Hashable:
    """Turn nested dicts and lists into hashable tuples, for comparing argument tables."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return (type(value).__name__, value)


class _WithArguments(Frozen):
    """Keeps a copy of its ``arguments``, and compares what is in them."""

    arguments: Arguments = MappingProxyType({})

    def settle(self) -> None:
        """Take the copy."""
        vars(self)["arguments"] = dict(self.arguments or {})

    def identity(self) -> object:
        """Kind, arguments and the rest."""
        kind, arguments, *rest = self._read(self)
        return kind, freeze(arguments), *rest


class ExchangeSpec(_WithArguments):
    """An exchange as declared."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False


QueueType = Literal["classic", "quorum", "stream"]
"""What kind of queue the broker makes: one copy, replicated, or a log that is read again and again."""
Overflow = Literal["drop-head", "reject-publish", "reject-publish-dlx"]
"""What a full queue does: drop its oldest message, or refuse the new one (and dead-letter it)."""


class QueueSpec(_WithArguments):
    """A queue as declared.

    What the broker calls arguments has names and units of its own here, and becomes ``arguments``: two specs that mean
    the same are equal.  None leaves it to the broker, or to its operator's policies.

    Args:
        name: the empty name asks the broker to choose one.
        durable: it is there after a restart of the broker.
        exclusive: it is this connection's own, and goes with it.
        auto_delete: it goes with its last consumer.
        type: quorum queues and streams are durable, and neither exclusive nor auto-delete; streams are RabbitMQ's only.
        ttl: seconds a message waits before it is dead-lettered, or dropped.
        expires: seconds without a consumer, a ``get`` or a declaration after which the queue goes.
        max_length: messages that wait at most; ``overflow`` says what happens beyond.
        max_length_bytes: the same in bytes of their bodies (Redis refuses it: it doesn't weigh messages).
        dead_letter_exchange: where rejected, expired and overflowing messages go; ``""`` is the default exchange.
        dead_letter_routing_key: by which key; the message's own when None.
        delivery_limit: how often a quorum queue delivers a message again before it dead-letters it.
        max_priority: the highest ``priority`` that it knows, 1 to 255; each costs the broker memory, few are enough.
        single_active_consumer: one of its consumers gets everything, until it is gone (Redis refuses it).
        max_age: seconds that a stream keeps its messages.
        arguments: whatever else, under the broker's names; it may not contradict the others.

    Raises:
        ValueError: a duration is no number of seconds from 0 on, or an option contradicts ``arguments``.
    """

    name: str
    durable: bool
    exclusive: bool
    auto_delete: bool

    def __init__(
        self,
        *,
        name: str,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        type: QueueType | None = None,
        ttl: float | None = None,
        expires: float | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        overflow: Overflow | None = None,
        dead_letter_exchange: str | None = None,
        dead_letter_routing_key: str | None = None,
        delivery_limit: int | None = None,
        max_priority: int | None = None,
        single_active_consumer: bool | None = None,
        max_age: float | None = None,
        arguments: Arguments | None = None,
    ) -> None:
        merged = dict(arguments or {})
        options = {
            "x-queue-type": type,
            "x-message-ttl": None if ttl is None else milliseconds("ttl", ttl),
            "x-expires": None if expires is None else milliseconds("expires", expires),
            "x-max-length": max_length,
            "x-max-length-bytes": max_length_bytes,
            "x-overflow": overflow,
            "x-dead-letter-exchange": dead_letter_exchange,
            "x-dead-letter-routing-key": dead_letter_routing_key,
            "x-delivery-limit": delivery_limit,
            "x-max-priority": max_priority,
            "x-single-active-consumer": single_active_consumer,
            "x-max-age": None if max_age is None else f"{milliseconds('max_age', max_age) // 1000}s",
        }
        for argument, value in options.items():
            if value is not None and merged.setdefault(argument, value) != value:
                raise ValueError(f"arguments say {argument}={merged[argument]!r:.80}, and an option {value!r:.80}")
        Frozen.__init__(
            self, name=name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=merged
        )


class BindingKind(Enum):
    """What a binding leads to."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


class BindingSpec(_WithArguments):
    """A binding, identified by everything it was made with (arguments included)."""

    kind: BindingKind
    source: str
    destination: str
    routing_key: str = ""


Declaration = ExchangeSpec | QueueSpec | BindingSpec
"""What is declared over a connection, and restored in each of its sessions."""


class ConsumerSpec(_WithArguments):
    """A subscription as wished for; the tag is the client's and stays over restarts."""

    tag: str
    queue: str
    no_ack: bool = False
    exclusive: bool = False
    no_local: bool = False

    def under(self, queue: str) -> ConsumerSpec:
        """The same of a queue that is called so now."""
        return self if queue == self.queue else self.but(queue=queue)


class QoS(Frozen):
    """How much the broker may deliver unacknowledged (``basic.qos``); 0 is no limit."""

    prefetch_count: int = 0
    prefetch_size: int = 0
    apply_global: bool = False

    def settle(self) -> None:
        """Refuse numbers that the protocol can't say."""
        for name, most in (("prefetch_count", 0xFFFF), ("prefetch_size", 0xFFFFFFFF)):
            value: object = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= most:
                raise ValueError(f"{name} must be a number from 0 (no limit) to {most}, not {value!r:.80}")

    @property
    def plain(self) -> bool:
        """Whether it bounds nothing but the messages of consumers that come after it, which no broker refuses."""
        return not (self.prefetch_size or self.apply_global)


class Capabilities(Record):
    """What a transport can do, for facade attributes and the table in docs."""

    heartbeats: bool
    confirms: bool
    exchange_types: frozenset[str]
    server_named_queues: bool = True


class QueueInfo(Record):
    """What ``queue.declare-ok`` says."""

    name: str
    messages: int
    consumers: int


class Delivery(Record):
    """One message as it came from the broker (``basic.deliver``, ``basic.get-ok``)."""

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    """Shared between messages whose properties are the same bytes: never change it."""
    body: bytes


class Returned(Record):
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


class RefusedPublish(Record):
    """A publish that the broker refused, or that was given up, when nobody waited for its outcome."""

    exchange: str
    routing_key: str
    properties: Mapping[str, object]
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
