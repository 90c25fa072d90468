"""Many queues in one call: declared, and consumed from, without a way into the runtime and back for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._values.model import BindingKind, BindingSpec, ConsumerSpec, ExchangeSpec, QueueSpec
from .exchange import Exchange, binding
from .queue import Queue

if TYPE_CHECKING:
    from .channel import Channel, Subscription
    from .message import Message

__all__ = ["batches", "consumed_over", "declare_all", "subscription"]

T = TypeVar("T")

AT_ONCE = 100
"""Queues of one call: each call has its deadline, and a busy broker may take ten milliseconds for a queue."""


def declare_all(queues: Iterable[Queue]) -> None:
    """Declare queues with their exchanges and bindings, in order, those that can be together."""
    for channel, batch in batches(queues, _declared_over):
        if channel is None:
            for queue in batch:
                queue.declare()
            continue
        noted = Declarations(channel)
        for queue in batch:
            queue.declare(channel=cast("Channel", noted))
        noted.make()


def subscription(queue: Queue, tag: str, no_ack: bool, callback: Callable[[Message], object]) -> Subscription:
    """What ``Queue.consume`` asks for."""
    spec = ConsumerSpec(tag=tag, queue=queue.name, no_ack=no_ack, arguments=queue.consumer_arguments or {})
    return spec, callback, None


def batches(items: Iterable[T], over: Callable[[T], Channel | None]) -> Iterator[tuple[Channel | None, list[T]]]:
    """Items in order, those that follow one another and go over the same channel together, as far as one call goes."""
    for channel, group in groupby(items, over):
        members = list(group)
        for first in range(0, len(members), AT_ONCE):
            yield channel, members[first : first + AT_ONCE]


def _declared_over(queue: Queue) -> Channel | None:
    """The channel over which a queue can be declared together with others; None: it is to be declared by itself.

    Then somebody waits for the broker's answer, for a name or the number of messages, or an exclusive queue may have
    to be asked for again, or declaring it is something else here.
    """
    exchanges = [queue.exchange, *(each.exchange for each in queue.bindings)]
    together = (
        bool(queue.name)
        and not queue.exclusive
        and queue.on_declared is None
        and _is_ours(queue, Queue, "declare", "queue_declare", "queue_bind", "bind_to")
        and all(type(each) is binding for each in queue.bindings)
        and all(exchange is None or _is_ours(exchange, Exchange, "declare") for exchange in exchanges)
    )
    return queue.channel if together and hasattr(type(queue.channel), "declare_all") else None


def consumed_over(queue: Queue) -> Channel | None:
    """The channel over which a queue can be consumed from together with others; None: by itself."""
    together = _is_ours(queue, Queue, "consume") and hasattr(type(queue.channel), "subscribe")
    return queue.channel if together else None


def _is_ours(entity: object, kind: type, *methods: str) -> bool:
    """Whether these methods of an entity are those of our class, and not a subclass's or replaced by a test."""
    return all(getattr(getattr(entity, name), "__func__", None) is getattr(kind, name) for name in methods)


class Declarations:
    """A channel to entities that are declared: what they ask of it is noted, to be made together."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._exchanges: dict[ExchangeSpec, None] = {}
        self._others: list[QueueSpec | BindingSpec] = []

    def make(self) -> None:
        """Declare what was noted: exchanges, then queues, each with its bindings."""
        self._channel.declare_all((*self._exchanges, *self._others))

    def prepare_queue_arguments(self, arguments: Mapping[str, object], **options: float | None) -> dict[str, object]:
        """As the channel does."""
        return self._channel.prepare_queue_arguments(arguments, **options)

    def exchange_declare(self, *, exchange: str, passive: bool, nowait: bool, **settings: Any) -> None:
        """Note an exchange; one that is only looked for is looked for at once."""
        if passive:
            self._channel.exchange_declare(exchange, passive=True, **settings)
        else:
            settings["arguments"] = settings["arguments"] or {}
            self._exchanges[ExchangeSpec(name=exchange, **settings)] = None

    def queue_declare(self, *, queue: str, passive: bool, nowait: bool, **settings: Any) -> None:
        """Note a queue."""
        self._others.append(QueueSpec(name=queue, **settings))

    def queue_bind(
        self, *, queue: str, exchange: str, routing_key: str | None, arguments: Mapping[str, Any] | None, nowait: bool
    ) -> None:
        """Note a binding of a queue."""
        binds = BindingSpec(
            kind=BindingKind.QUEUE,
            source=exchange,
            destination=queue,
            routing_key=routing_key or "",
            arguments=arguments or {},
        )
        self._others.append(binds)
