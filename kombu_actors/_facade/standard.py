"""What kombu says every transport's channel has, beyond AMQP's own methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack, cast

from .queue_arguments import to_rabbitmq_queue_arguments

if TYPE_CHECKING:
    from .channel import Channel
    from .consumer import Consumer, ConsumerOptions
    from .exchange import Exchange
    from .producer import Producer, ProducerOptions
    from .queue import Queue

__all__ = ["StdChannel"]


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
