"""What kombu says every transport's channel has beyond AMQP's methods, and its options of queues in broker's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, Unpack, cast

from ..utils.time import maybe_s_to_ms

if TYPE_CHECKING:
    from .channel import Channel
    from .consumer import Consumer
    from .contracts import ConsumerOptions, ProducerOptions
    from .exchange import Exchange
    from .producer import Producer
    from .queue import Queue

__all__ = ["RABBITMQ_QUEUE_ARGUMENTS", "StdChannel", "to_rabbitmq_queue_arguments"]

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


class StdChannel:
    """The kind of all channels: ``isinstance(thing, StdChannel)`` tells one from a connection."""

    no_ack_consumers: set[str]

    def Producer(
        self,
        exchange: Exchange | str | None = None,
        routing_key: str | None = None,
        *args: Any,
        **kwargs: Unpack[ProducerOptions],
    ) -> Producer:
        """A new :class:`~kombu_actors.Producer` on this channel."""
        from .producer import Producer

        return Producer(cast("Channel", self), exchange, routing_key, *args, **kwargs)

    def Consumer(
        self, queues: Queue | Iterable[Queue] | None = None, *args: Any, **kwargs: Unpack[ConsumerOptions]
    ) -> Consumer:
        """A new :class:`~kombu_actors.Consumer` on this channel."""
        from .consumer import Consumer

        return Consumer(cast("Channel", self), queues, *args, **kwargs)

    def get_bindings(self) -> NoReturn:
        """Not there, as in kombu: brokers don't list bindings over a channel."""
        raise NotImplementedError("brokers don't list bindings over a channel: ask connection.manager, on RabbitMQ")

    def after_reply_message_received(self, queue: str) -> None:
        """Nothing to do: reply queues expire by themselves."""

    def prepare_queue_arguments(
        self, arguments: Mapping[str, object] | None, **kwargs: float | None
    ) -> dict[str, object]:
        """Translate kombu's queue options to the broker's arguments."""
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def close(self) -> None:
        """Close the channel."""
        raise NotImplementedError(f"{type(self).__name__} must say how it is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()
