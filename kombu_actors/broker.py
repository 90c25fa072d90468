"""The trio-native API: the same tree, inside the caller's own nursery.

    async with open_broker("amqp://") as broker:
        await broker.declare(QueueSpec(name="orders"))
        await broker.publish({"id": 1}, routing_key="orders")
        async with broker.subscribe("orders") as messages:
            async for message in messages:
                print(message.payload)
                message.ack()

``publish`` awaits the outcome; ``subscribe`` survives every fault.  No thread is involved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from ssl import SSLContext

import trio

from ._native.backlog import BUFFER_MAX, Backlog
from ._native.block import Block
from ._native.channels import SharedChannel
from ._native.consuming import ErrorHandler, Handler, Key, OnError
from ._native.declarations import Declarations
from ._native.delivered import Delivered
from ._native.deliveries import Deliveries, Wishes
from ._native.entries import MessageProperties
from ._native.intake import beginnings
from ._native.opening import ConnectionOptions, check_in_trio, connection_actor
from ._native.place import CALL_TIMEOUT
from ._native.publications import Publications
from ._native.publishing import RuntimePublishing
from ._native.requests import Requests
from ._native.streams import StreamOffset
from ._subscription import Subscription
from ._values.endpoint import FailoverStrategy
from ._values.model import BODY_MAX, BindingKind, BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from .actors._waiting import CLOSE_GRACE
from .actors.connection import CONNECTION_BACKOFF, ConnectionActor
from .actors.consumer import SubscriptionGap
from .actors.renewing import Renewal
from .actors.restoring import QueueRenamed, RestorationSucceeded, RestorationWaiting
from .actors.waitlist import Waiting
from .supervisors import Backoff, ChildView, Event, EventStream
from .supervisors._interrupts import guarded, protected

__all__ = [
    "BindingKind",
    "BindingSpec",
    "Broker",
    "Delivered",
    "ErrorHandler",
    "ExchangeSpec",
    "Handler",
    "Key",
    "MessageProperties",
    "OnError",
    "QueueInfo",
    "QueueRenamed",
    "QueueSpec",
    "Renewal",
    "RestorationSucceeded",
    "RestorationWaiting",
    "StreamOffset",
    "Subscription",
    "SubscriptionGap",
    "Waiting",
    "open_broker",
]

EVENTS = 256
"""Supervision events that wait for whoever reads them: what a fault makes at a connection with fifty consumers."""


@guarded
async def open_broker(
    url: str | Sequence[str],
    *,
    tls: bool | Mapping[str, object] | SSLContext = False,
    connect_timeout: float = 5.0,
    heartbeat: float = 15.0,
    failover_strategy: str | FailoverStrategy = "round-robin",
    login_method: str = "PLAIN",
    wait: bool = True,
    keep_dialling: bool = False,
    backoff: Backoff = CONNECTION_BACKOFF,
    body_max: int = BODY_MAX,
    client_properties: Mapping[str, object] | None = None,
    transport_options: Mapping[str, object] | None = None,
    listener: Callable[[Event], None] | None = None,
    close_timeout: float = CLOSE_GRACE,
    buffer_max: int = BUFFER_MAX,
) -> AsyncIterator[Broker]:
    """Connect and run the connection's tree while the block runs.

    Args:
        url: one broker URL, or several to fail over between (a list, or separated by ``;``).
        tls: ``True``, kombu's ``ssl`` dict, or an ``ssl.SSLContext``.
        connect_timeout: seconds for TCP, TLS and handshake with one endpoint.
        heartbeat: seconds; RabbitMQ recommends 5-20.
        wait: enter the block only when the session is up.
        keep_dialling: go on when the very first pass over the endpoints fails, instead of raising.
        backoff: the waits between sessions; the default's first is none, its longest 3 s.
        body_max: bytes of the largest message body.  Publishing a larger one is a ``ValueError``; one that is
            delivered is rejected, and logged as an error; ``docs/reliability.md`` says why that default.
        transport_options: what one transport has of its own, under kombu's names (Redis: ``master_name``, ...;
            AMQP: ``frame_max``, bytes, and ``channel_max``, wishes that the broker may lower).
        listener: called with every supervision event.
        close_timeout: seconds that leaving the block may take, also when it is cancelled: for all goodbyes to the
            broker together; 2 are many round trips, and a broker that is frozen or cut off says none.
        buffer_max: bytes (a KiB for each message included) that all subscriptions together take in ahead of who
            iterates them; then reading pauses, but for answers that are waited for.  A slow subscription can so
            keep its siblings waiting: give it a smaller prefetch, or a broker of its own.

    Raises:
        BrokerUnreachable, AccessRefused, NotAllowed: connecting failed (see ``keep_dialling``); also
            raised out of a running block when supervision gives up for such a reason.

    Leaving the block, or cancelling it, stops the tree in order: consumers, channels, topology, session.
    """
    check_in_trio()
    options: ConnectionOptions = {
        "tls": tls,
        "connect_timeout": connect_timeout,
        "heartbeat": heartbeat,
        "failover_strategy": failover_strategy,
        "login_method": login_method,
        "keep_dialling": keep_dialling,
        "backoff": backoff,
        "body_max": body_max,
        "client_properties": client_properties,
        "transport_options": transport_options,
        "listener": listener,
        "close_timeout": close_timeout,
    }
    actor = connection_actor(url, **options)
    async with actor.running():
        broker = Broker(actor, buffer_max)
        try:
            if wait:
                await actor.topology_calls.wait_ready()
            yield broker
        finally:
            broker.refuse_calls()


@protected
class Broker(Declarations, Publications, Deliveries):
    """A running connection.  Get it from ``open_broker``.

    Each call has a ``timeout`` for all of its parts, waiting for a session included, in seconds; 30 are longer than
    a failover takes.  It raises ``DeadlineExceeded``, which says what the connection is like, and ``ConnectionClosed``
    as soon as the block of ``open_broker`` is left, also when it is waiting then.
    """

    def __init__(self, actor: ConnectionActor, buffer_max: int) -> None:
        self._actor = actor
        self._backlog = Backlog(buffer_max, actor.pause_reading, actor.resume_reading)
        self._turns = beginnings()
        self._place = self._block = Block(actor, self._backlog)
        self._publishing = self._channel = RuntimePublishing(actor, self._block)
        self._polling = SharedChannel(actor)
        self._requests = Requests(actor, self._channel)
        self._subscriptions: set[Subscription] = set()

    def refuse_calls(self) -> None:
        """End all calls, from now on and under way; publishes hear of their confirms until the tree has stopped."""
        self._block.close()
        self._channel.forget()
        for subscription in self._subscriptions:
            subscription.fail(self._block.reason())

    async def consume(
        self,
        queue: str,
        handler: Handler,
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        key: Key | None = None,
        on_error: OnError | ErrorHandler = OnError.REJECT,
        exclusive: bool = False,
        priority: int | None = None,
        accept: Collection[str] | None = None,
        arguments: Mapping[str, object] | None = None,
        timeout: float = CALL_TIMEOUT,
        task_status: trio.TaskStatus[Subscription] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Handle a queue's messages until cancelled, or until the subscription is stopped.

        ``await handler(message)`` is called for each, in up to ``concurrency`` tasks at a time.  A message whose
        handler returns is acked, unless the handler has settled it; ``on_error`` says what becomes of one whose
        handler raises.  A message whose session is lost while it is handled is delivered again; the log has a
        warning then.

        ``messages = await nursery.start(broker.consume, queue, handler)`` returns when the subscription is in force
        (``functools.partial`` takes the other arguments).  ``await messages.stop()`` ends it in order: what is here
        is handled, then ``consume`` returns.

        Args:
            concurrency: handlers at a time.
            prefetch: unsettled messages the broker may send ahead.  When None, two for each handler: one at work, one
                at hand, and the rest where others can have it; with ``key``, 100 at least, for keys that are busy.
            key: messages for which ``key(message)`` is the same are handled one after the other, in the order of the
                queue, while others pass them.  A failed one doesn't stop those behind it.
            on_error: an ``OnError``, or ``await on_error(message, error)``: a function that decides (and whose own
                error ends ``consume``).
            exclusive, priority, accept, arguments, timeout: as for ``subscribe``.

        Raises:
            ValueError: ``concurrency`` is less than 1.
            as ``subscribe``; and what supervision gives up for.
            whatever a handler raises, bare, with ``OnError.RAISE``.

        Cancelled, the handlers are cancelled; their messages go back into the queue.
        """
        wishes: Wishes = {
            "exclusive": exclusive,
            "priority": priority,
            "accept": accept,
            "arguments": arguments,
            "timeout": timeout,
        }
        async with self._crew(queue, handler, concurrency, prefetch, key, on_error, **wishes) as crew:
            async with trio.open_nursery() as nursery:
                stop = partial(nursery.cancel_scope.cancel, reason="one of the tasks of consume failed")
                for _ in range(concurrency):
                    nursery.start_soon(crew.work, _is_cancelled, stop, name=handler)
                task_status.started(crew.messages)
            crew.check()

    @property
    def blocked(self) -> str | None:
        """The broker's reason for taking no publishes, such as "low on memory"; None while it takes them."""
        return self._actor.blocked_because()

    def snapshot(self) -> ChildView:
        """The supervision tree as it is now: immutable, JSON-able."""
        return self._actor.supervisor.snapshot()

    def events(self, capacity: int = EVENTS) -> AbstractAsyncContextManager[EventStream]:
        """``async with broker.events() as stream``: supervision events as they happen; drops the oldest when full."""
        self._block.check_open()
        return self._actor.supervisor.events(capacity)


def _is_cancelled(error: BaseException) -> bool:
    return isinstance(error, trio.Cancelled)
