"""Queues for those who want a queue: ``put``, ``get``, ``qsize``."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from queue import Empty
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, cast

from ._facade.consumer import Consumer
from ._facade.exchange import Exchange
from ._facade.message import Message
from ._facade.producer import Producer
from ._facade.queue import Queue
from ._facade.queue_channels import PREFETCH, queue_channels
from ._facade.surface import connection_of, is_connection
from ._values.model import Arguments
from .connection import Connection

if TYPE_CHECKING:
    from ._facade.channel import Channel

__all__ = ["SimpleBase", "SimpleBuffer", "SimpleQueue"]

logger = logging.getLogger(__name__)
_NEVER: object = object()


class SimpleBase:
    """A queue made of a producer and a consumer, which it keeps working.

    Nothing needs to be done after a fault: queue and subscription are restored by supervision, and
    if that gave up (the error is raised once), the next call starts afresh.

    ``get`` takes at most one message at a time from the broker (kombu: all there are), over a channel
    of its own.  Given a channel it uses that one, with the prefetch you gave it, or one.
    """

    Empty: ClassVar = Empty

    def __init__(
        self, channel: Channel | Connection, producer: Producer, consumer: Consumer, no_ack: bool = False
    ) -> None:
        if is_connection(channel):
            self._connection, self.channel, self._channel_given = channel, channel.default_channel, False
        else:
            self.channel, self._channel_given = cast("Channel", channel), True
            self._connection = connection_of(self.channel)
        self.producer = producer
        self.consumer = consumer
        self.no_ack = no_ack
        self.queue = consumer.queues[0]
        self.buffer: deque[Message] = deque()
        self._consuming_on: Channel | None = None
        self._subscribing = threading.RLock()
        # By C alone: between its arrival and the buffer, and between the buffer and who gets it, there must be no point
        # at which a signal handler that raises loses a message (see Inbox).
        self._oldest = iter(self.buffer.popleft, _NEVER)
        consumer.on_message = self.buffer.append
        consumer.on_decode_error = self._receive_undecodable

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BaseException:
            self._abandon()
            raise

    def __len__(self) -> int:
        return self.qsize()

    def __bool__(self) -> bool:
        """A queue object is true, also when the queue is empty."""
        return True

    def get(self, block: bool = True, timeout: float | None = None) -> Message:
        """Take a message; with ``block`` (default) wait for one, at most ``timeout`` seconds.

        The callbacks of other consumers of this connection may run meanwhile, in this thread.
        Unless the queue is ``no_ack``, acknowledge the message: the next one comes only then.

        Raises:
            Empty: there was none (in time).
            the root cause, once, when supervision has given up.
        """
        if not block:
            return self.get_nowait()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._consume()
            since = self._connection.events_handled
            message = self._from_buffer()
            if message is not None:
                return message
            self._wait(deadline, since)

    def get_nowait(self) -> Message:
        """Take a message if there is one.

        Raises:
            Empty: there is none.
        """
        self._take_in()
        arrived = self._from_buffer()
        if arrived is not None:
            return arrived
        self._renew()
        message: Message | None = self.queue.get(no_ack=self.no_ack, accept=self.consumer.accept)
        if message is None:
            raise self.Empty
        return message

    def put(
        self,
        message: object,
        serializer: str | None = None,
        headers: Mapping[str, object] | None = None,
        compression: str | None = None,
        routing_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish a message to the queue; further keywords are ``Producer.publish``'s (``retry=True``, ...)."""
        self._renew()
        self.producer.publish(
            message,
            serializer=serializer,
            routing_key=routing_key,
            headers=headers,
            compression=compression,
            **kwargs,
        )

    def clear(self) -> int:
        """Delete all messages that ``get`` would still give; returns how many there were."""
        self._renew()
        purged = self.consumer.purge()
        self._take_in()
        return purged + self._decide_all(Message.ack)

    def qsize(self) -> int:
        """About how many messages there are to get: others may be putting and getting meanwhile."""
        self._renew()
        _, ready, _ = self.queue.queue_declare(passive=True)
        self._take_in()
        return int(ready) + len(self.buffer)

    def close(self) -> None:
        """Stop consuming; messages that nobody got yet go back to the queue at once."""
        try:
            channel = self._consuming_on
            if channel is None or not self._connection.keeps(channel):
                self._consuming_on = None
                self.buffer.clear()
            else:
                self._stop_consuming(channel)
        except BaseException:
            self._abandon()
            raise

    def _stop_consuming(self, channel: Channel) -> None:
        tags = [tag for tag, _ in self.consumer._active.values()]
        try:
            self.consumer.cancel()
            if not self.no_ack:
                for tag in tags:
                    channel.callbacks[tag] = self.buffer.append
                self._drain_arrived()
        finally:
            for tag in tags:
                channel.callbacks.pop(tag, None)
        self._abandon()

    def _abandon(self) -> None:
        """Consume no longer, and give back what nobody got, without waiting for anything."""
        self._consuming_on = None
        self.consumer._cancel_soon()
        if not self.no_ack:
            self._decide_all(Message.requeue)

    def _wait(self, deadline: float, since: int) -> None:
        """Wait until a thread, this one or another, has handled something since; ``Empty`` at the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise Empty
        try:
            self._connection.drain_events(timeout=None if left == math.inf else left, since=since)
        except TimeoutError:
            logger.debug("nothing came to %r in time", self.queue)  # or just now: the caller looks once more

    def _from_buffer(self) -> Message | None:
        try:
            for message in self._oldest:
                return message
        except IndexError:
            return None
        return None

    def _decide_all(self, decide: Callable[[Message], None]) -> int:
        """Decide about all messages in the buffer; returns how many there were."""
        count, message = 0, None
        try:
            while (message := self._from_buffer()) is not None:
                decide(message)
                count += 1
        except BaseException:
            if message is not None and not message.acknowledged:
                self.buffer.appendleft(message)
            raise
        return count

    def _receive_undecodable(self, message: Message, error: Exception) -> None:
        """It is the caller's: its ``payload`` raises the error, and it can be rejected."""
        self.buffer.append(message)

    def _consume(self) -> None:
        """Have the consumer consume, on a channel that lives."""
        connection = self._connection
        if self._consuming_on is not None and connection.keeps(self._consuming_on):
            return
        with self._subscribing:
            if self._consuming_on is not None and connection.keeps(self._consuming_on):
                return  # another thread was faster
            if self._channel_given:
                channel = self.channel
                self.consumer._active.clear()  # a channel that is gone says so when it is asked again
                if not channel.has_qos:
                    channel.basic_qos(0, PREFETCH, False)
            else:
                self._renew()
                channel = queue_channels[connection].channel(connection)
                self._move_consumer(channel)
            try:
                self._consuming_on = channel
                self.consumer.consume(no_ack=self.no_ack)
            except BaseException:
                self._consuming_on = None
                self.consumer._cancel_soon()
                raise

    def _renew(self) -> None:
        """Go on with the connection's present default channel, if the former one is gone for good."""
        connection = self._connection
        if self._channel_given or connection.keeps(self.channel):
            return
        self.channel = connection.default_channel
        self.producer.revive(connection)
        self.queue = self.queue(self.channel)
        self.queue.declare()
        if not connection.keeps(self.consumer.channel):
            self._move_consumer(self.channel)

    def _move_consumer(self, channel: Channel) -> None:
        """Have the consumer work on another channel of the same connection, which knows the queue."""
        consumer = self.consumer
        consumer._active.clear()
        declares, consumer.auto_declare = consumer.auto_declare, False
        try:
            consumer.revive(channel)
        finally:
            consumer.auto_declare = declares

    def _take_in(self) -> None:
        """Put what was delivered already into the buffer."""
        if self._consuming_on is not None:
            self._drain_arrived()

    def _drain_arrived(self) -> None:
        while True:
            try:
                self._connection.drain_events(timeout=0)
            except TimeoutError:
                return


class SimpleOptions(TypedDict, total=False):
    """Further keywords of ``SimpleQueue``."""

    serializer: str | None
    compression: str | None
    accept: Collection[str] | None


class SimpleQueue(SimpleBase):
    """A persistent queue with acknowledgements.

    ``name`` is a queue name, which is also that of its exchange and its routing key, or a ``Queue``,
    which is used as it is.  ``queue_opts`` and ``exchange_opts`` are keywords of the ``Queue`` and
    ``Exchange`` made from a name, ``queue_args`` the queue's arguments.  ``serializer`` and
    ``compression`` are the producer's, ``accept`` the consumer's.  ``no_ack`` has the broker forget
    messages as it sends them: those not yet got are lost with the connection.
    """

    no_ack: bool = False
    queue_opts: ClassVar[Arguments] = {}
    queue_args: ClassVar[Arguments] = {}
    exchange_opts: ClassVar[Arguments] = {"type": "direct"}

    def __init__(
        self,
        channel: Channel | Connection,
        name: str | Queue,
        no_ack: bool | None = None,
        queue_opts: Arguments | None = None,
        queue_args: Arguments | None = None,
        exchange_opts: Arguments | None = None,
        serializer: str | None = None,
        compression: str | None = None,
        accept: Collection[str] | None = None,
    ) -> None:
        if isinstance(name, Queue):
            queue = name
        else:
            queue = Queue(
                name,
                Exchange(name, **{**self.exchange_opts, **(exchange_opts or {})}),
                name,
                queue_arguments={**self.queue_args, **(queue_args or {})},
                **{**self.queue_opts, **(queue_opts or {})},
            )
        producer = Producer(
            channel,
            queue.exchange,
            routing_key=queue.routing_key,
            serializer=serializer,
            compression=compression,
        )
        consumer = Consumer(channel, queue, accept=accept)
        super().__init__(channel, producer, consumer, self.no_ack if no_ack is None else no_ack)


class SimpleBuffer(SimpleQueue):
    """A queue for the moment: transient, for this connection alone, gone with it; no acknowledgements."""

    no_ack = True
    queue_opts: ClassVar[Arguments] = {"durable": False, "auto_delete": True, "exclusive": True}
    exchange_opts: ClassVar[Arguments] = {"durable": False, "delivery_mode": "transient", "auto_delete": True}
