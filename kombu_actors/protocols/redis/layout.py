"""What things are called in Redis: kombu 5.7's names, shared with its clients, and our own beside them.

Names are ``str`` as people and declarations spell them; keys, topics and arguments of a call are
``bytes`` as they go over the wire.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable
from typing import Final

import attrs

__all__ = ["DEFAULT_FANOUT_PREFIX", "Layout"]

SEPARATOR: Final = "\x06\x16"
DEFAULT_STEPS: Final = (0, 3, 6, 9)
DEFAULT_FANOUT_PREFIX: Final = "/{db}."
HIGHEST_PRIORITY: Final = 9
"""kombu clamps priorities to 0 .. 9 before it looks for their step."""
OWN_PREFIX: Final = "_kombu_actors."
"""What our own keys begin with, after the global prefix."""
PRIORITY_ORDERS: Final = ("kombu", "amqp")
_GLOB: Final = str.maketrans({letter: f"\\{letter}" for letter in "\\*?[]"})


def _check_steps(_: object, attribute: attrs.Attribute[tuple[int, ...]], steps: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``steps`` are ascending whole numbers: kombu searches them by bisection."""
    sound = bool(steps) and all(type(step) is int and step >= 0 for step in steps)
    if not sound or list(steps) != sorted(set(steps)):
        raise ValueError(
            f"transport option {attribute.name} must be ascending whole numbers from 0 on, such as [0, 3, 6, 9],"
            f" not {steps!r:.80}"
        )


def _check_fanout_prefix(_: object, attribute: attrs.Attribute[str], prefix: str) -> None:
    """Raise ``ValueError`` unless ``prefix`` can be completed with the number of the database."""
    try:
        prefix.format(db=0)
    except (LookupError, ValueError, AttributeError):
        raise ValueError(
            f"transport option {attribute.name} may have {{db}} for the database's number and nothing else in braces,"
            f" not {prefix!r:.80}"
        ) from None


def _check_separator(_: object, attribute: attrs.Attribute[str], separator: str) -> None:
    if not separator:
        raise ValueError(
            f"transport option {attribute.name} must not be empty: it parts a queue's name from its priority step"
        )


def _check_order(_: object, attribute: attrs.Attribute[str], order: str) -> None:
    if order not in PRIORITY_ORDERS:
        raise ValueError(
            f"transport option {attribute.name} must be one of {', '.join(PRIORITY_ORDERS)}, not {order!r:.80}"
        )


def _as_steps(steps: Iterable[int]) -> tuple[int, ...]:
    return tuple(steps)


@attrs.frozen(kw_only=True)
class Layout:
    """The names in one database, as one connection's options settle them.

    All clients of a database must agree on them, stock kombu's included, or they won't find each
    other's queues.
    """

    global_keyprefix: str = ""
    """In front of every key and topic, so that several users can share a database."""
    sep: str = attrs.field(default=SEPARATOR, validator=_check_separator)
    """Parts the fields of a binding, and a queue's name from a priority step."""
    priority_steps: tuple[int, ...] = attrs.field(default=DEFAULT_STEPS, converter=_as_steps, validator=_check_steps)
    """A queue is one list for each; a message goes to the last step that its priority reaches."""
    priority_order: str = attrs.field(default="kombu", validator=_check_order)
    """``kombu``: the lowest step is served first, as stock kombu does; ``amqp``: the highest, as RabbitMQ does."""
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    fanout_prefix: str = attrs.field(default=DEFAULT_FANOUT_PREFIX, validator=_check_fanout_prefix)
    """In front of the Pub/Sub topics of fanout exchanges: they know no databases, hence its number there."""
    fanout_patterns: bool = True
    """Whether a routing key is part of the topic that a fanout message is published on."""
    database: int = 0

    @property
    def fanout_start(self) -> str:
        """``fanout_prefix`` with the number of the database filled in."""
        return self.fanout_prefix.format(db=self.database)

    # keys

    @property
    def namespace(self) -> bytes:
        """What our own keys begin with."""
        return (self.global_keyprefix + OWN_PREFIX).encode()

    @property
    def serving_order(self) -> tuple[int, ...]:
        """The priority steps, first the one whose messages are handed out first."""
        return self.priority_steps if self.priority_order == "kombu" else self.priority_steps[::-1]

    def list_keys(self, queue: str) -> tuple[bytes, ...]:
        """The keys of a queue's lists, in serving order."""
        plain = self.global_keyprefix + queue
        return tuple((f"{plain}{self.sep}{step}" if step else plain).encode() for step in self.serving_order)

    def step(self, priority: object) -> int:
        """The step of a message's priority: kombu's rule.

        What is no number counts as 0; numbers are taken to the nearest of 0 .. 9.  A priority below the
        first step goes to the last one, which is kombu's doing when steps don't start at 0.
        """
        try:
            wanted = max(0, min(int(priority), HIGHEST_PRIORITY))  # type: ignore[call-overload]
        except (TypeError, ValueError, OverflowError):
            wanted = 0
        return self.priority_steps[bisect(self.priority_steps, wanted) - 1]

    def common(self, owner: str, body_max: int) -> tuple[bytes, ...]:
        """The arguments that every script call of ``owner`` starts with, from the number of keys on.

        Messages whose bodies have more than ``body_max`` bytes are not handed out.
        """
        return (
            b"3",
            self.namespace,
            (self.global_keyprefix + self.unacked_key).encode(),
            (self.global_keyprefix + self.unacked_index_key).encode(),
            self.global_keyprefix.encode(),
            self.sep.encode(),
            ",".join(map(str, self.serving_order)).encode(),
            owner.encode(),
            b"%d" % body_max,
        )

    # Pub/Sub

    def topic(self, exchange: str, routing_key: str = "") -> bytes:
        """The topic that a message for a fanout exchange is published on."""
        return f"{self.global_keyprefix}{self.fanout_start}{exchange}{self._tail(routing_key)}".encode()

    def subscriptions(self, exchange: str, binding_key: str = "") -> tuple[bytes, ...]:
        """The patterns that a queue bound to a fanout exchange subscribes to (PSUBSCRIBE).

        ``#`` and ``*`` in the key stand for anything, as kombu has it.  Without a key it takes whatever is
        published, with a key or without one: a fanout exchange asks for none.
        """
        key = binding_key.replace("#", "*")
        start = f"{self.global_keyprefix}{self.fanout_start}{exchange}".translate(_GLOB)
        tails = [self._tail(key)] if key or not self.fanout_patterns else ["", "/*"]
        return tuple((start + tail).encode() for tail in tails)

    def _tail(self, key: str) -> str:
        return f"/{key}" if key and self.fanout_patterns else ""
