"""Publishers and consumers as Carrot had them, kombu's forerunner: for programs that were written for those.

Each opens a channel of its own on the connection it is given, and closes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from .entity import Exchange, Queue
from .messaging import Consumer as _Consumer
from .messaging import Producer as _Producer

if TYPE_CHECKING:
    from ._facade.accepted import Accepted
    from ._facade.channel import Channel
    from ._facade.contracts import ConsumerOptions, ProducerOptions
    from ._facade.message import Message
    from ._facade.surface import Bindable
    from .connection import Connection

__all__ = ["Consumer", "ConsumerSet", "Publisher", "entry_to_queue"]

entry_to_queue = Queue.from_dict
"""A queue from a dict of options, as configuration files have them."""


def _steps(connection: Connection, consumer: _Consumer, no_ack: bool | None, limit: int | None) -> Iterator[None]:
    consumer.consume(no_ack=no_ack)
    for _ in range(limit) if limit is not None else count():
        connection.drain_events()
        yield


class Publisher(_Producer):
    """A producer with the settings of its exchange as arguments or class attributes.

    ``channel`` is used in place of a new one, if given; further keywords are ``Producer``'s.
    """

    exchange: Any = ""
    exchange_type = "direct"
    routing_key = ""
    durable = True
    auto_delete = False
    _closed = False

    def __init__(
        self,
        connection: Connection,
        exchange: Exchange | str | None = None,
        routing_key: str | None = None,
        exchange_type: str | None = None,
        durable: bool | None = None,
        auto_delete: bool | None = None,
        channel: Channel | None = None,
        **kwargs: Unpack[ProducerOptions],
    ) -> None:
        self.exchange_type = exchange_type or self.exchange_type
        self.durable = self.durable if durable is None else durable
        self.auto_delete = self.auto_delete if auto_delete is None else auto_delete
        wanted = exchange or self.exchange
        if not isinstance(wanted, Exchange):
            wanted = Exchange(wanted, type=self.exchange_type, durable=self.durable, auto_delete=self.auto_delete)
        super().__init__(channel or connection.channel(), wanted, routing_key or self.routing_key, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> Accepted:
        """``publish`` under its old name."""
        return self.publish(*args, **kwargs)

    def close(self) -> None:
        """Close the channel."""
        super().close()
        if not self._closed:
            self._closed = True
            self.channel.close()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    @property
    def backend(self) -> Channel:
        """The channel."""
        return self.channel


class Consumer(_Consumer):
    """A consumer of one queue, with the settings of queue and exchange as arguments or class attributes.

    Further keywords are ``Consumer``'s.
    """

    queue: Any = ""
    exchange: Any = ""
    routing_key = ""
    exchange_type = "direct"
    durable = True
    exclusive = False
    auto_delete = False
    _closed = False

    def __init__(
        self,
        connection: Connection,
        queue: str | None = None,
        exchange: str | None = None,
        routing_key: str | None = None,
        exchange_type: str | None = None,
        durable: bool | None = None,
        exclusive: bool | None = None,
        auto_delete: bool | None = None,
        **kwargs: Unpack[ConsumerOptions],
    ) -> None:
        self.backend = connection.channel()
        self.durable = self.durable if durable is None else durable
        self.exclusive = self.exclusive if exclusive is None else exclusive
        self.auto_delete = self.auto_delete if auto_delete is None else auto_delete
        self.queue = queue or self.queue
        self.exchange = exchange or self.exchange
        self.routing_key = routing_key or self.routing_key
        self.exchange_type = exchange_type or self.exchange_type
        whole = Queue(
            self.queue,
            exchange=Exchange(
                self.exchange, type=self.exchange_type, durable=self.durable, auto_delete=self.auto_delete
            ),
            routing_key=self.routing_key,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
        )
        super().__init__(self.backend, whole, **kwargs)

    def revive(self, channel: Bindable) -> None:
        """Move to another channel."""
        super().revive(channel)
        self.backend = self.channel

    def close(self) -> None:
        """Stop consuming, and close the channel."""
        self.cancel()
        self.backend.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message | None]:
        return self.iterqueue(infinite=True)

    def fetch(self, no_ack: bool | None = None, enable_callbacks: bool = False) -> Message | None:
        """Poll for one message; ``enable_callbacks`` has the callbacks called with it, too."""
        message = self.queues[0].get(self.no_ack if no_ack is None else no_ack)
        if message is not None and enable_callbacks:
            self.receive(message.payload, message)
        return message

    def process_next(self) -> None:
        """Not there, as in kombu."""
        raise NotImplementedError("Use fetch(enable_callbacks=True)")

    def discard_all(self, filterfunc: object = None) -> int:
        """Delete all ready messages; returns how many there were.  There are no filters, as in kombu."""
        if filterfunc is not None:
            raise NotImplementedError("discard_all does not implement filters")
        return self.purge()

    def iterconsume(self, limit: int | None = None, no_ack: bool | None = None) -> Iterator[None]:
        """Consume, and drain one event at each step; at most ``limit``, for ever by default."""
        return _steps(_connection_of(self), self, no_ack, limit)

    def wait(self, limit: int | None = None) -> list[None]:
        """Consume until ``limit`` events have been drained."""
        return list(self.iterconsume(limit))

    def iterqueue(self, limit: int | None = None, infinite: bool = False) -> Iterator[Message | None]:
        """Poll for one message at each step: until the queue is empty, or, with ``infinite``, for ever, ``None``
        where there was none; at most ``limit``."""
        for fetched in count():
            if fetched == limit:
                return
            message = self.fetch()
            if message is None and not infinite:
                return
            yield message


class ConsumerSet(_Consumer):
    """A consumer of several queues: of ``from_dict``, options by queue name, and those of other consumers.

    ``channel`` is used in place of a new one, if given; further keywords are ``Consumer``'s.
    """

    _closed = False

    def __init__(
        self,
        connection: Connection,
        from_dict: Mapping[str, Mapping[str, Any]] | None = None,
        consumers: list[_Consumer] | None = None,
        channel: Channel | None = None,
        **kwargs: Unpack[ConsumerOptions],
    ) -> None:
        self._provided_channel = channel is not None
        self.backend = channel or connection.channel()
        queues = [queue for consumer in consumers or [] for queue in consumer.queues]
        queues += [entry_to_queue(name, **options) for name, options in (from_dict or {}).items()]
        super().__init__(self.backend, queues, **kwargs)

    def iterconsume(self, limit: int | None = None, no_ack: bool = False) -> Iterator[None]:
        """Consume, and drain one event at each step; at most ``limit``, for ever by default."""
        return _steps(_connection_of(self), self, no_ack, limit)

    def discard_all(self) -> int:
        """Delete all ready messages of all queues; returns how many there were."""
        return self.purge()

    def add_consumer_from_dict(self, queue: str, **options: Any) -> Queue:
        """Add a queue by its options; returns it."""
        return self.add_queue(entry_to_queue(queue, **options))

    def add_consumer(self, consumer: _Consumer) -> None:
        """Add another consumer's queues."""
        for queue in consumer.queues:
            self.add_queue(queue)

    def revive(self, channel: Bindable) -> None:
        """Move to another channel."""
        super().revive(channel)
        self.backend = self.channel

    def close(self) -> None:
        """Stop consuming, and close the channel unless it was given."""
        self.cancel()
        if not self._provided_channel:
            self.channel.close()
        self._closed = True


def _connection_of(consumer: _Consumer) -> Connection:
    connection = consumer.connection
    if connection is None:
        raise RuntimeError(f"{consumer!r} has no channel to consume over")
    return connection
