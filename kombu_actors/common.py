"""What programs that exchange messages have in common: broadcasts, replies, loops over messages."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, Unpack, overload
from uuid import NAMESPACE_OID, uuid3, uuid4

from ._facade.consumer import Callback, Consumer
from ._facade.declare import maybe_declare
from ._facade.exchange import Exchange
from ._facade.message import Message
from ._facade.producer import Producer
from ._facade.queue import Queue
from ._facade.surface import connection_of
from .resource import Resource
from .serialization import registry
from .utils.uuid import uuid

if TYPE_CHECKING:
    from ._facade.accepted import Accepted
    from ._facade.channel import Channel
    from ._facade.contracts import ConsumerSettings, Retries
    from .connection import Connection

__all__ = [
    "Broadcast",
    "PREFETCH_COUNT_MAX",
    "QoS",
    "collect_replies",
    "drain_consumer",
    "entry_to_queue",
    "eventloop",
    "generate_oid",
    "get_node_id",
    "ignore_errors",
    "insured",
    "itermessages",
    "maybe_declare",
    "oid_from",
    "send_reply",
    "uuid",
]

PREFETCH_COUNT_MAX = 0xFFFF
"""AMQP carries the prefetch count in 16 bits."""
T = TypeVar("T")
C = TypeVar("C", bound="Connection")
logger = logging.getLogger(__name__)

entry_to_queue = Queue.from_dict
"""A queue from a dict of options, as configuration files have them."""


class Broadcast(Queue):
    """A queue of one's own on a fanout exchange: each consumer gets each message.

    ``name`` is the exchange's.  The queue's name is unique, unless ``queue`` gives one; with
    ``unique`` what it gives is only the beginning.  The queue goes with its last consumer.
    Further keywords are ``Queue``'s.
    """

    attrs = (*Queue.attrs, ("queue", None))

    queue: str

    def __init__(
        self,
        name: str | None = None,
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Exchange | str | None = None,
        alias: str | None = None,
        **kwargs: Any,
    ) -> None:
        if unique or not queue:
            queue = f"{queue or 'bcast'}.{uuid()}"
        super().__init__(
            name=queue,
            queue=queue,
            alias=alias or name,
            auto_delete=auto_delete,
            exchange=Exchange(name or "", type="fanout") if exchange is None else exchange,
            **kwargs,
        )


# Loops


def eventloop(
    conn: Connection, limit: int | None = None, timeout: float | None = None, ignore_timeouts: bool = False
) -> Iterator[None]:
    """Drain events, one at each step; at most ``limit``, for ever by default.

    ``timeout`` is for each event: passing it ends the loop with ``socket.timeout``, or, with
    ``ignore_timeouts``, counts as a step that yields nothing.
    """
    for _ in range(limit) if limit else count():
        try:
            conn.drain_events(timeout=timeout)
        except TimeoutError:
            if timeout and not ignore_timeouts:
                raise
        else:
            yield


def drain_consumer(
    consumer: Consumer,
    limit: int | None = 1,
    timeout: float | None = None,
    callbacks: list[Callback] | None = None,
) -> Iterator[tuple[Any, Message]]:
    """The ``(body, message)`` pairs that a consumer receives during up to ``limit`` events.

    It consumes while the iteration runs.  Its callbacks are replaced: by ``callbacks``, which are
    called with each pair before it is yielded.
    """
    received: deque[tuple[Any, Message]] = deque()
    consumer.callbacks = [lambda body, message: received.append((body, message)), *(callbacks or [])]
    with consumer:
        for _ in eventloop(connection_of(consumer.channel), limit=limit, timeout=timeout, ignore_timeouts=True):
            if received:
                yield received.popleft()


def itermessages(
    conn: Connection,
    channel: Channel,
    queue: Queue,
    limit: int | None = 1,
    timeout: float | None = None,
    callbacks: list[Callback] | None = None,
    **kwargs: Unpack[ConsumerSettings],
) -> Iterator[tuple[Any, Message]]:
    """The ``(body, message)`` pairs that arrive in a queue; see ``drain_consumer``.

    Further keywords are ``Consumer``'s.
    """
    consumer = conn.Consumer(queues=[queue], channel=channel, **kwargs)
    return drain_consumer(consumer, limit=limit, timeout=timeout, callbacks=callbacks)


# Requests and replies


def send_reply(
    exchange: Exchange | str | None,
    req: Message,
    msg: object,
    producer: Producer,
    retry: bool = False,
    retry_policy: Mapping[str, object] | None = None,
    **props: object,
) -> Accepted:
    """Publish the reply to a request: to its ``reply_to``, with its ``correlation_id``, serialized as it was.

    Further keywords are ``Producer.publish``'s, and win.
    """
    options = {
        "routing_key": req.properties["reply_to"],
        "correlation_id": req.properties.get("correlation_id"),
        "serializer": registry.type_to_name[req.content_type or ""],
        "content_encoding": req.content_encoding,
        **props,
    }
    return producer.publish(msg, exchange=exchange, retry=retry, retry_policy=retry_policy, **options)


def collect_replies(
    conn: Connection,
    channel: Channel,
    queue: Queue,
    limit: int | None = 1,
    timeout: float | None = None,
    callbacks: list[Callback] | None = None,
    **kwargs: Unpack[ConsumerSettings],
) -> Iterator[Any]:
    """The bodies of the replies that arrive in a queue; arguments are ``itermessages``'s.

    Replies are consumed with ``no_ack``; with ``no_ack=False`` each is acknowledged here.
    """
    no_ack = kwargs.setdefault("no_ack", True)
    for body, message in itermessages(conn, channel, queue, limit, timeout, callbacks, **kwargs):
        if not no_ack:
            message.ack()
        yield body


# Errors


class HasErrors(Protocol):
    """A connection, or a program with one (``ConsumerMixin``)."""

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """Errors of the connection."""

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """Errors of a channel."""


def insured(
    pool: Resource[C],
    fun: Callable[..., T],
    args: tuple[object, ...],
    kwargs: Mapping[str, object],
    errback: Callable[[BaseException, float], object] | None = None,
    on_revive: Callable[[Channel], object] | None = None,
    **opts: Unpack[Retries],
) -> T:
    """Call ``fun(*args, channel=..., connection=..., **kwargs)`` with a pool's connection, riding out errors.

    Waits for a connection of the pool.  ``errback(exc, interval)`` hears of each error (default: it is
    logged), ``on_revive(channel)`` of each recovery; further keywords are ``Connection.ensure``'s.
    Returns what ``fun`` does.
    """
    errback = errback or _log_error
    with pool.acquire(block=True) as connection:
        connection.ensure_connection(errback=errback)
        call = connection.autoretry(fun, connection.default_channel, errback=errback, on_revive=on_revive, **opts)
        result: T = call(*args, connection=connection, **kwargs)[0]
        return result


def _log_error(error: BaseException, interval: float) -> None:
    logger.error("connection error, trying again in %s s: %r", interval, error, exc_info=error)


@overload
def ignore_errors(conn: HasErrors) -> AbstractContextManager[None]: ...
@overload
def ignore_errors(conn: HasErrors, fun: None) -> AbstractContextManager[None]: ...
@overload
def ignore_errors(conn: HasErrors, fun: Callable[..., T], *args: object, **kwargs: object) -> T | None: ...
def ignore_errors(
    conn: HasErrors, fun: Callable[..., T] | None = None, *args: object, **kwargs: object
) -> T | AbstractContextManager[None] | None:
    """Let errors of connection and channel pass: ``ignore_errors(conn, fun, ...)``, or ``with ignore_errors(conn):``.

    For cleaning up only, where what the error means has happened anyway.  They are logged, at level DEBUG.
    """
    if fun is None:
        return _ignoring(conn)
    with _ignoring(conn):
        return fun(*args, **kwargs)


@contextmanager
def _ignoring(conn: HasErrors) -> Iterator[None]:
    try:
        yield
    except (*conn.connection_errors, *conn.channel_errors) as error:
        logger.debug("ignored: %r", error)


# Ids


class _Node:
    id: ClassVar[int | None] = None


def get_node_id() -> int:
    """A number of this process (and those forked from it), chosen at random."""
    if _Node.id is None:
        _Node.id = uuid4().int
    return _Node.id


def generate_oid(node_id: int, process_id: int, thread_id: int, instance: object) -> str:
    """The id of an object in a thread of a process: the same for the same, a UUID in text form."""
    return str(uuid3(NAMESPACE_OID, f"{node_id:x}-{process_id:x}-{thread_id:x}-{id(instance):x}"))


def oid_from(instance: object, threads: bool = True) -> str:
    """The id of an object here and now; without ``threads`` it is the same in all threads."""
    return generate_oid(get_node_id(), os.getpid(), threading.get_ident() if threads else 0, instance)


# Prefetch


class QoS:
    """A prefetch count that any thread may change, and one thread applies.

    ``callback(prefetch_count=n)`` sets it: ``consumer.qos``, for instance.  0 is no bound, and stays
    so.  ``max_prefetch`` bounds what ``increment_eventually`` may make of it.
    """

    prev: int | None = None
    """What was set last."""

    def __init__(
        self, callback: Callable[..., object], initial_value: int | None, max_prefetch: int | None = None
    ) -> None:
        self.callback = callback
        self.value = initial_value or 0
        self.max_prefetch = max_prefetch
        self._mutex = threading.RLock()

    def increment_eventually(self, n: int = 1) -> int:
        """Raise the value; ``update`` will apply it."""
        with self._mutex:
            if self.value:
                self.value += max(n, 0)
                if self.max_prefetch is not None:
                    self.value = min(self.value, self.max_prefetch)
            return self.value

    def decrement_eventually(self, n: int = 1) -> int:
        """Lower the value, to 1 at the least; ``update`` will apply it."""
        with self._mutex:
            if self.value:
                self.value = max(self.value - n, 1)
            return self.value

    def set(self, pcount: int) -> int:
        """Apply a value, if it isn't the present one.  More than AMQP can carry is no bound."""
        if pcount != self.prev:
            if pcount > PREFETCH_COUNT_MAX:
                logger.warning("no prefetch bound: %d exceeds %d", pcount, PREFETCH_COUNT_MAX)
            self.callback(prefetch_count=0 if pcount > PREFETCH_COUNT_MAX else pcount)
            self.prev = pcount
        return pcount

    def update(self) -> int:
        """Apply the value."""
        with self._mutex:
            return self.set(self.value)
