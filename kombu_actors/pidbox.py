"""Remote control: commands broadcast to the nodes of a program, and their replies.

A :class:`Mailbox` is a namespace; a :class:`Node` in it has handlers for commands::

    mailbox = Mailbox("shop", type="fanout", connection=connection)
    node = mailbox.Node("worker-1", channel=connection.channel())
    node.handler(ping)             # def ping(state, **arguments)
    node.listen()                  # from now on, while events are drained
    mailbox.multi_call("ping")     # elsewhere: [{"worker-1": "pong"}, ...]
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Any

from ._pidbox_node import Handler, Node
from ._pidbox_replies import Replies
from .clocks import LamportClock
from .common import oid_from
from .entity import Exchange, Queue
from .errors import InconsistencyError
from .messaging import Producer
from .utils.functional import maybe_evaluate
from .utils.objects import cached_property
from .utils.uuid import uuid

if TYPE_CHECKING:
    from ._facade.channel import Channel
    from .connection import Connection
    from .resource import Resource

__all__ = ["Mailbox", "Node"]

REPLY_QUEUE_EXPIRES = 10.0
"""Seconds that a reply queue outlives its last use: longer than a reconnect, so that replies are kept meanwhile."""


class Mailbox:
    """A namespace of nodes, and the means to send them commands.

    Arguments:
        namespace: Begins the names of exchanges and queues.
        type: ``fanout``: every node gets each command, and looks whether it is for it.
        connection: Where commands are sent and replies are waited for; ``mailbox(connection)`` is a copy with another.
        clock: The logical clock whose time goes with each command and reply.
        accept: Content types of commands and replies that may be decoded; JSON by default.
        serializer: How they are encoded; the producer's default by default.
        producer_pool: Producers to send with, or a ``lazy`` one; else the channel at hand is used.
        queue_ttl, queue_expires: Seconds until a command goes that no node has taken, and until a queue goes that no
            node uses.
        queue_durable, queue_exclusive: Whether a node's queue outlives the broker, or belongs to one connection.
        reply_queue_ttl: Seconds until a reply goes that nobody has taken.
        reply_queue_expires: Seconds until a reply queue goes that nobody uses.  Until then it outlives its connection,
            so that replies are not lost with a session; ``None`` makes it go with that.
    """

    node_cls: type[Node] = Node
    exchange_fmt = "%s.pidbox"
    reply_exchange_fmt = "reply.%s.pidbox"

    def __init__(
        self,
        namespace: str,
        type: str = "direct",
        connection: Connection | None = None,
        clock: LamportClock | None = None,
        accept: Collection[str] | None = None,
        serializer: str | None = None,
        producer_pool: object = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_durable: bool = False,
        queue_exclusive: bool = True,
        reply_queue_ttl: float | None = None,
        reply_queue_expires: float | None = REPLY_QUEUE_EXPIRES,
    ) -> None:
        if queue_durable and queue_exclusive:
            raise ValueError(
                "queue_exclusive and queue_durable exclude each other: an exclusive queue goes with its connection; "
                "pass queue_exclusive=False"
            )
        self.namespace = namespace
        self.type = type
        self.connection = connection
        self.clock = LamportClock() if clock is None else clock
        self.accept: Collection[str] = ["json"] if accept is None else accept
        self.serializer = serializer
        self.queue_ttl = queue_ttl
        self.queue_expires = queue_expires
        self.queue_durable = queue_durable
        self.queue_exclusive = queue_exclusive
        self.reply_queue_ttl = reply_queue_ttl
        self.reply_queue_expires = reply_queue_expires
        self.exchange = self._exchange(self.exchange_fmt, type)
        self.reply_exchange = self._exchange(self.reply_exchange_fmt, "direct")
        self._replies = Replies(self.clock)
        self._producer_pool = producer_pool

    def _exchange(self, fmt: str, kind: str) -> Exchange:
        return Exchange(fmt % self.namespace, type=kind, durable=False, delivery_mode="transient")

    def __call__(self, connection: Connection) -> Mailbox:
        """The same mailbox over another connection."""
        other = object.__new__(self.__class__)
        vars(other).update(vars(self), connection=connection, _replies=Replies(self.clock))
        return other

    def Node(
        self,
        hostname: str | None = None,
        state: object = None,
        channel: Channel | None = None,
        handlers: Mapping[str, Handler] | None = None,
    ) -> Node:
        """A node in this mailbox, named by the host unless it has another name."""
        return self.node_cls(hostname or socket.gethostname(), state, channel, handlers, mailbox=self)

    # Commands

    def call(
        self,
        destination: Sequence[str],
        command: str,
        kwargs: Mapping[str, object] | None = None,
        timeout: float | None = None,
        callback: Callable[[Any], object] | None = None,
        channel: Channel | None = None,
    ) -> list[Any] | None:
        """Send a command to some nodes, and wait for their replies; see ``multi_call``."""
        return self._broadcast(
            command, kwargs, destination, reply=True, timeout=timeout, callback=callback, channel=channel
        )

    def cast(self, destination: Sequence[str], command: str, kwargs: Mapping[str, object] | None = None) -> None:
        """Send a command to some nodes."""
        self._broadcast(command, kwargs, destination, reply=False)

    def abcast(self, command: str, kwargs: Mapping[str, object] | None = None) -> None:
        """Send a command to all nodes."""
        self._broadcast(command, kwargs, reply=False)

    def multi_call(
        self,
        command: str,
        kwargs: Mapping[str, object] | None = None,
        timeout: float | None = 1,
        limit: int | None = None,
        callback: Callable[[Any], object] | None = None,
        channel: Channel | None = None,
    ) -> list[Any] | None:
        """Send a command to all nodes, and return their replies, each ``{host name: reply}``.

        Waits until ``limit`` have come, or none has for ``timeout`` seconds (``None``: the connection's
        ``call_timeout``).  ``callback(reply)`` is called for each.
        """
        return self._broadcast(
            command, kwargs, reply=True, timeout=timeout, limit=limit, callback=callback, channel=channel
        )

    def _broadcast(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        destination: Sequence[str] | None = None,
        reply: bool = False,
        timeout: float | None = 1,
        limit: int | None = None,
        callback: Callable[..., object] | None = None,
        channel: Channel | None = None,
        serializer: str | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> list[object] | None:
        if destination is not None and not isinstance(destination, list | tuple):
            raise ValueError(f"destination must be a list or tuple of host names, not {type(destination).__name__}")
        if not all(isinstance(given, str | None) for given in (pattern, matcher)):
            raise ValueError("pattern and the name of its matcher are texts")
        arguments = arguments or {}
        ticket = uuid() if reply else None
        channel = channel or self._connected().default_channel
        if limit is None and destination:
            limit = len(destination)
        if ticket is not None:
            self.get_reply_queue()(channel).declare()
        self._publish(
            command,
            arguments,
            destination=destination,
            reply_ticket=ticket,
            channel=channel,
            timeout=timeout,
            serializer=serializer,
            pattern=pattern,
            matcher=matcher,
        )
        if ticket is None:
            return None
        return self._collect(ticket, limit=limit, timeout=timeout, callback=callback, channel=channel)

    def _publish(
        self,
        type: str,
        arguments: Mapping[str, object],
        destination: Sequence[str] | None = None,
        reply_ticket: str | None = None,
        channel: Channel | None = None,
        timeout: float | None = None,
        serializer: str | None = None,
        producer: Producer | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        message: dict[str, object] = {
            "method": type,
            "arguments": arguments,
            "destination": destination,
            "pattern": pattern,
            "matcher": matcher,
        }
        if reply_ticket:
            reply_to = {"exchange": self.reply_exchange.name, "routing_key": self.oid}
            message.update(ticket=reply_ticket, reply_to=reply_to)
        with self.producer_or_acquire(producer, channel) as producer:
            producer.publish(
                message,
                exchange=self.exchange.name,
                declare=[self.exchange],
                headers={"clock": self.clock.forward(), "expires": time() + timeout if timeout else 0},
                serializer=serializer or self.serializer,
                retry=True,
            )

    def _publish_reply(
        self,
        reply: object,
        exchange: str,
        routing_key: str,
        ticket: str | None,
        channel: Channel | None = None,
        producer: Producer | None = None,
        **opts: Any,
    ) -> None:
        replies = Exchange(exchange, type="direct", delivery_mode="transient", durable=False)
        with self.producer_or_acquire(producer, channel) as producer:
            try:
                producer.publish(
                    reply,
                    exchange=replies,
                    routing_key=routing_key,
                    declare=[replies],
                    headers={"ticket": ticket, "clock": self.clock.forward()},
                    retry=True,
                    **opts,
                )
            except InconsistencyError:
                return  # its queue is gone, and with it who asked

    def _collect(
        self,
        ticket: str,
        limit: int | None = None,
        timeout: float | None = 1,
        callback: Callable[..., object] | None = None,
        channel: Channel | None = None,
        accept: Collection[str] | None = None,
    ) -> list[object]:
        channel = channel or self._connected().default_channel
        return self._replies.collect(
            ticket,
            self.get_reply_queue(),
            channel,
            limit=limit,
            timeout=timeout,
            callback=callback,
            accept=self.accept if accept is None else accept,
        )

    def _connected(self) -> Connection:
        if self.connection is None:
            raise ValueError(
                f"mailbox {self.namespace!r} has no connection: use mailbox(connection), or pass a channel"
            )
        return self.connection

    # Queues and producers

    @property
    def oid(self) -> str:
        """Names the replies to this mailbox, in this process and thread."""
        return oid_from(self)

    def get_reply_queue(self) -> Queue:
        """Where this thread's replies arrive."""
        lasting = self.reply_queue_expires is not None
        return Queue(
            f"{self.oid}.{self.reply_exchange.name}",
            exchange=self.reply_exchange,
            routing_key=self.oid,
            durable=lasting or self.queue_durable,
            exclusive=self.queue_exclusive and not lasting,
            auto_delete=not (lasting or self.queue_durable),
            expires=self.reply_queue_expires,
            message_ttl=self.reply_queue_ttl,
        )

    @property
    def reply_queue(self) -> Queue:
        """Where this thread's replies arrive."""
        return self.get_reply_queue()

    def get_queue(self, hostname: str) -> Queue:
        """Where a node's commands arrive."""
        return Queue(
            f"{hostname}.{self.exchange.name}",
            exchange=self.exchange,
            durable=self.queue_durable,
            exclusive=self.queue_exclusive,
            auto_delete=not self.queue_durable,
            expires=self.queue_expires,
            message_ttl=self.queue_ttl,
        )

    @cached_property
    def producer_pool(self) -> Resource[Producer] | None:
        """The producers to send with; ``None`` when there are none."""
        pool: Resource[Producer] | None = maybe_evaluate(self._producer_pool)
        return pool

    @contextmanager
    def producer_or_acquire(
        self, producer: Producer | None = None, channel: Channel | None = None
    ) -> Iterator[Producer]:
        """A producer for a block: the one given, one of the pool, or a new one on the channel."""
        if producer is not None:
            yield producer
        elif self.producer_pool is not None:
            with self.producer_pool.acquire(block=True) as pooled:
                yield pooled
        else:
            yield Producer(channel or self._connected(), auto_declare=False)
