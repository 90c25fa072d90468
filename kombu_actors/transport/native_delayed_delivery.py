"""Messages that RabbitMQ holds back for a time: Celery's tasks with a countdown, on quorum queues.

There are 28 levels, one for each bit of the delay in seconds.  Each is a topic exchange and a queue: a message whose
routing key has a 1 in the level's place waits in the queue, for 2 ** level seconds, and then goes on to the next lower
level; one that has a 0 goes there at once.  From level 0 it comes to the delivery exchange, to which the queues' own
exchanges are bound.  Everything is durable, and shared by all programs on the virtual host.

(kombu, ``kombu.transport.native_delayed_delivery``.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..entity import Exchange, Queue, binding
from ..exceptions import ChannelError
from ..log import get_logger

if TYPE_CHECKING:
    from ..connection import Connection

__all__ = [
    "CELERY_DELAYED_DELIVERY_EXCHANGE",
    "MAX_LEVEL",
    "MAX_NUMBER_OF_BITS_TO_USE",
    "bind_queue_to_native_delayed_delivery_exchange",
    "calculate_routing_key",
    "declare_native_delayed_delivery_exchanges_and_queues",
    "level_name",
]

MAX_NUMBER_OF_BITS_TO_USE = 28
"""Delays are shorter than 2 ** 28 seconds: eight and a half years."""
MAX_LEVEL = MAX_NUMBER_OF_BITS_TO_USE - 1
CELERY_DELAYED_DELIVERY_EXCHANGE = "celery_delayed_delivery"
"""Where messages are delivered whose time has come."""
DIRECT = (
    "Exchange %s is a direct exchange and native delayed delivery do not support direct exchanges.\n"
    "ETA tasks published to this exchange will block the worker until the ETA arrives."
)
"""In kombu's very words, which Celery's users search for and its tests compare."""
logger = get_logger(__name__)


def _prefixed(name: str, prefix: str | None) -> str:
    return f"{prefix}_{name}" if prefix else name


def level_name(level: int, prefix: str | None = None) -> str:
    """The name of a level's exchange and queue.  Raises ``ValueError`` for a negative level."""
    if level < 0:
        raise ValueError(f"levels count from 0 on; there is none {level}")
    return _prefixed(f"celery_delayed_{level}", prefix)


def declare_native_delayed_delivery_exchanges_and_queues(
    connection: Connection, queue_type: str, prefix: str | None = None
) -> None:
    """Declare all levels and the delivery exchange; again after each fault, while the connection lives.

    ``queue_type`` is ``quorum`` or ``classic``; ``prefix`` begins all names, with an underscore.

    Raises:
        ValueError: there is no such type.
        ChannelError: the broker refused something (a name is taken by something else); all the rest is declared.
    """
    if queue_type not in ("classic", "quorum"):
        raise ValueError(f"queue_type must be classic or quorum, not {queue_type!r:.80}")
    delivery = Exchange(_prefixed(CELERY_DELAYED_DELIVERY_EXCHANGE, prefix), type="topic")
    levels = [Exchange(level_name(level, prefix), type="topic") for level in range(MAX_NUMBER_OF_BITS_TO_USE)]
    with connection.channel() as channel, _EachByItself() as each:
        for level in range(MAX_LEVEL, -1, -1):
            queue = _level_queue(level, levels[level], [delivery, *levels][level], queue_type)
            each(levels[level](channel).declare)
            each(queue(channel).queue_declare)
            each(queue(channel).queue_bind)
        each(delivery(channel).declare)
        for level in range(MAX_LEVEL, -1, -1):
            below = [delivery, *levels][level]
            each(below(channel).bind_to, levels[level], _at(level, 0))


def _at(level: int, bit: int) -> str:
    """The routing keys with that bit in the level's place."""
    return "*." * (MAX_LEVEL - level) + f"{bit}.#"


def _level_queue(level: int, exchange: Exchange, below: Exchange, queue_type: str) -> Queue:
    arguments: dict[str, object] = {
        "x-queue-type": queue_type,
        "x-overflow": "reject-publish",
        "x-message-ttl": 2**level * 1000,
        "x-dead-letter-exchange": below.name,
    }
    if queue_type == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    return Queue(exchange.name, exchange, routing_key=_at(level, 1), queue_arguments=arguments)


def bind_queue_to_native_delayed_delivery_exchange(
    connection: Connection, queue: Queue, prefix: str | None = None
) -> None:
    """Have a queue's exchanges get messages whose time has come.

    A direct exchange can't, for the delay is in front of the routing key: that is logged, and left as it is.

    Raises:
        ChannelError: the broker refused a binding (an exchange is missing); the others are made.
    """
    delivery = Exchange(_prefixed(CELERY_DELAYED_DELIVERY_EXCHANGE, prefix), type="topic")
    ways = list(queue.bindings) or [binding(queue.exchange, queue.routing_key)]
    with connection.channel() as channel, _EachByItself() as each:
        for way in ways:
            exchange = way.exchange
            if exchange is None or exchange.type == "direct":
                logger.warning(DIRECT, exchange.name if exchange is not None else "")
                continue
            key = way.routing_key if (way.routing_key or "").startswith("#.") else f"#.{way.routing_key or ''}"
            each(exchange(channel).bind_to, delivery, key)
            each(queue(channel).bind_to, exchange, key)


def calculate_routing_key(countdown: int, routing_key: str) -> str:
    """The routing key, at the topmost level, of what is to arrive with ``routing_key`` in ``countdown`` seconds.

    The key of a message that has come this way stands behind its old delay, and a task that is retried gives that key:
    the old delay gives way to the new one.

    Raises:
        ValueError: the countdown is no whole number of seconds from 1 up to 2 ** 28 - 1, or there is no routing key.
    """
    if not 1 <= countdown < 2**MAX_NUMBER_OF_BITS_TO_USE:
        raise ValueError(f"countdown must be a positive number of seconds below 2 ** 28, not {countdown!r:.80}")
    if not routing_key:
        raise ValueError("routing_key must be non-empty")
    words = routing_key.split(".")
    old, rest = words[:MAX_NUMBER_OF_BITS_TO_USE], words[MAX_NUMBER_OF_BITS_TO_USE:]
    if rest and all(word in ("0", "1") for word in old):
        words = rest
    return ".".join([*f"{countdown:0{MAX_NUMBER_OF_BITS_TO_USE}b}", *words])


class _EachByItself:
    """Makes all declarations, whatever becomes of each; the first refusal is raised at the end."""

    def __init__(self) -> None:
        self.refused: list[Exception] = []

    def __call__(self, declare: Callable[..., object], *args: object) -> None:
        try:
            declare(*args)
        except ChannelError as error:
            self.refused.append(error)

    def __enter__(self) -> _EachByItself:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is None and self.refused:
            first, *others = self.refused
            for other in others:
                first.add_note(f"also refused: {other}")
            raise first
