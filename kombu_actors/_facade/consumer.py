"""Consuming."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .._bridge.feeds import HANDS_OVER
from ..errors import ContentDisallowed
from ..serialization import prepare_accept_content
from ..utils.functional import maybe_list
from .message import Message
from .queue import Queue
from .surface import Bindable, connection_of, known_name, maybe_channel
from .together import batches, consumed_over, declare_all, subscription

if TYPE_CHECKING:
    from ..connection import Connection
    from .channel import Channel

__all__ = ["Consumer"]

logger = logging.getLogger(__name__)

Callback = Callable[[Any, Message], object]


class Consumer:
    """Receives messages from queues while its connection drains events.

    ``channel`` may be a connection: then its default channel is used.  ``queues`` is one queue or
    several; with ``auto_declare`` (default) they are declared at once.  Each message is decoded and
    given to all ``callbacks`` as ``(body, message)``, or undecoded to ``on_message(message)``, if
    there is one.  ``accept`` lists the content types (or serializer names) that may be decoded;
    default is what is enabled, which is JSON.  A message that can't be decoded goes to
    ``on_decode_error(message, exc)``, without it the error is raised from ``drain_events``.
    ``no_ack`` has the broker forget messages as it sends them; by default each queue decides.
    ``prefetch_count`` bounds how many messages may be unacknowledged at a time.  ``tag_prefix``
    begins the consumer tags.

    Callbacks run in the thread that drains events.  What a fault interrupts is restored by the
    connection: queues, QoS and subscriptions.
    """

    ContentDisallowed: ClassVar = ContentDisallowed

    channel: Any = None
    no_ack: bool | None = None
    auto_declare: bool = True
    callbacks: Any = None
    on_message: Callable[[Message], object] | None = None
    on_decode_error: Callable[[Message, Exception], object] | None = None
    accept: Collection[str] | None = None
    prefetch_count: int | None = None
    _tags: ClassVar = count(1)
    """Of this process: tags must differ between the consumers of a channel."""

    def __init__(
        self,
        channel: Bindable | None,
        queues: Queue | Iterable[Queue] | None = None,
        no_ack: bool | None = None,
        auto_declare: bool | None = None,
        callbacks: list[Callback] | None = None,
        on_decode_error: Callable[[Message, Exception], object] | None = None,
        on_message: Callable[[Message], object] | None = None,
        accept: Collection[str] | None = None,
        prefetch_count: int | None = None,
        tag_prefix: str | None = None,
    ) -> None:
        self.channel = channel
        self.queues = maybe_list(queues or [])
        self.no_ack = self.no_ack if no_ack is None else no_ack
        self.callbacks: list[Callback] = list(self.callbacks or []) if callbacks is None else callbacks
        self.on_message = on_message
        self.tag_prefix = tag_prefix
        self._active: dict[str, tuple[str, bool]] = {}
        if auto_declare is not None:
            self.auto_declare = auto_declare
        if on_decode_error is not None:
            self.on_decode_error = on_decode_error
        self.accept = prepare_accept_content(accept)
        self.prefetch_count = prefetch_count
        if self.channel:
            self.revive(self.channel)

    @property
    def queues(self) -> list[Queue]:
        """The queues to consume from, bound to the channel."""
        return list(self._queues.values())

    @queues.setter
    def queues(self, queues: Iterable[Queue]) -> None:
        self._file(queues)

    def _file(self, queues: Iterable[Queue]) -> None:
        self._queues: dict[str | int, Queue] = {}
        """By what each is filed under: those still without name are all different."""
        for queue in queues:
            self._put(queue)

    def _put(self, queue: Queue) -> None:
        """Add a queue, in place of one with the same name."""
        self._queues[self._key(queue) or id(queue)] = queue

    @property
    def connection(self) -> Connection | None:
        """The connection; ``None`` without a channel."""
        return None if self.channel is None else connection_of(self.channel)

    def revive(self, channel: Bindable) -> None:
        """Move to another channel, and there consume from what was consumed from here."""
        active, self._active = self._active, {}
        channel = self.channel = maybe_channel(channel)
        bound = [queue(channel) for queue in self.queues]
        for queue in bound:
            queue.revive(channel)  # also one that a subclass returned bound elsewhere
        self.queues = bound
        if self.auto_declare:
            self.declare()
        if self.prefetch_count is not None:
            self.qos(prefetch_count=self.prefetch_count)
        self._consume((queue, active[key][1]) for queue in self.queues if (key := self._key(queue)) in active)

    def declare(self) -> None:
        """Declare queues, exchanges and bindings.

        The first refusal is raised; what comes after it may have been declared or not.
        """
        declare_all(self.queues)
        self._file(self.queues)  # those that had no name have theirs now

    def register_callback(self, callback: Callback) -> None:
        """Add a callback, to be called after the others with ``(body, message)``."""
        self.callbacks.append(callback)

    def add_queue(self, queue: Queue) -> Queue:
        """Add a queue; ``consume`` starts consuming from it.  Returns it, bound to the channel."""
        queue = queue(self.channel)
        if self.auto_declare:
            queue.declare()
        self._put(queue)
        return queue

    def consume(self, no_ack: bool | None = None) -> None:
        """Start consuming from all queues that aren't consumed from yet."""
        no_ack = self.no_ack if no_ack is None else no_ack
        self._consume((queue, no_ack) for queue in self.queues)

    def _consume(self, queues: Iterable[tuple[Queue, bool | None]]) -> None:
        """Start consuming from queues, given with ``no_ack``, that aren't consumed from yet."""
        wishes: list[tuple[Queue, str, tuple[str, bool]]] = []
        for queue, no_ack in queues:
            key = self._key(queue)
            if key not in self._active:
                tag = f"{self.tag_prefix}{next(self._tags)}"  # "None1" without prefix: kombu's tags
                wishes.append((queue, key, (tag, bool(queue.no_ack if no_ack is None else no_ack))))
        for channel, batch in batches(wishes, lambda wish: consumed_over(wish[0])):
            if channel is None:
                for queue, key, wish in batch:
                    self._consume_alone(queue, key, wish)
            else:
                self._consume_together(channel, batch)

    def _consume_alone(self, queue: Queue, key: str, wish: tuple[str, bool]) -> None:
        tag, no_ack = wish
        try:
            self._active[key] = wish
            queue.consume(tag, self._receive_callback, no_ack=no_ack)
        except BaseException:
            self._active.pop(key, None)
            raise

    def _consume_together(self, channel: Channel, wishes: list[tuple[Queue, str, tuple[str, bool]]]) -> None:
        try:
            self._active.update((key, wish) for _, key, wish in wishes)
            channel.subscribe([subscription(queue, *wish, self._receive_callback) for queue, _, wish in wishes])
        except BaseException:
            for _, key, (tag, _) in wishes:
                if tag not in channel.callbacks:  # it was refused, or is behind one that was
                    self._active.pop(key, None)
            raise

    def cancel(self) -> None:
        """Stop consuming.  Messages that were received before can still be acknowledged.

        Interrupted, it stops consuming all the same, without waiting for the broker's answer.
        """
        try:
            for name in list(self._active):
                self.channel.basic_cancel(self._active[name][0])
                self._active.pop(name, None)
        except BaseException:
            self._cancel_soon()
            raise

    close = cancel

    def _cancel_soon(self) -> None:
        for tag, _ in self._active.values():
            self.channel.cancel_soon(tag)
        self._active.clear()

    def cancel_by_queue(self, queue: Queue | str) -> None:
        """Stop consuming from one queue, and forget it."""
        key = self._key(queue)
        self.queues = [known for known in self.queues if self._key(known) != key]
        if key in self._active:
            self.channel.basic_cancel(self._active[key][0])
            self._active.pop(key, None)

    def consuming_from(self, queue: Queue | str) -> bool:
        """Whether a queue (or queue name) is being consumed from."""
        return self._key(queue) in self._active

    def _key(self, queue: Queue | str) -> str:
        """What a queue is filed under: the first name that it had, should the broker have named it anew since."""
        return known_name(self.channel, queue.name if isinstance(queue, Queue) else queue)

    def purge(self) -> int:
        """Delete all ready messages of all queues; returns how many there were."""
        return sum(queue.purge() for queue in self.queues)

    def flow(self, active: bool) -> None:
        """Have the broker stop (``False``) or go on (``True``) sending; RabbitMQ refuses to stop: use ``qos``."""
        self.channel.flow(active)

    def qos(self, prefetch_size: int = 0, prefetch_count: int = 0, apply_global: bool = False) -> None:
        """Bound how many messages (and bytes) may be unacknowledged; 0 is no bound.

        ``no_ack`` consumers aren't bound.  ``apply_global`` makes it one bound for all consumers of
        the channel.
        """
        self.channel.basic_qos(prefetch_size, prefetch_count, apply_global)

    def recover(self, requeue: bool = False) -> None:
        """Have the broker deliver the channel's unacknowledged messages again; RabbitMQ wants ``requeue=True``."""
        self.channel.basic_recover(requeue=requeue)

    def receive(self, body: object, message: Message) -> None:
        """Give a decoded message to the callbacks; raises ``NotImplementedError`` when there are none."""
        callbacks = self.callbacks
        taken = getattr(message, "_taken", None)
        if taken is not None:
            del taken[:]  # from here on it is the callbacks', whatever interrupts them
        if not callbacks:
            raise NotImplementedError("Consumer does not have any callbacks")
        for callback in callbacks:
            callback(body, message)

    def _receive_callback(self, message: Message) -> Any:
        if self.accept is not None:
            message.accept = self.accept
        on_message = self.on_message
        if on_message is not None:
            message._hand_over()
            if message.errors:
                return message._reraise_error(self.on_decode_error)
            return on_message(message)
        try:
            body = message.decode()
        except Exception as exc:
            message._hand_over()
            if self.on_decode_error is None:
                raise
            return self.on_decode_error(message, exc)
        if type(self).receive is not Consumer.receive:
            message._hand_over()
        return self.receive(body, message)

    def __enter__(self) -> Self:
        try:
            self.consume()
        except BaseException:
            self._cancel_soon()  # the block is not entered, so nobody would leave it
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        connection = None
        # Also after a connection error: the connection would restore a subscription nobody has cancelled.
        try:
            connection = self.connection
            if connection is not None:
                self.cancel()
        except BaseException as exc:
            self._cancel_soon()
            if connection is None or not isinstance(exc, connection.connection_errors + connection.channel_errors):
                raise
            # It has gone with its channel, which is all that leaving wanted.
            logger.warning("%r was not cancelled: %r", self, exc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.queues}>"


setattr(Consumer._receive_callback, HANDS_OVER, True)
