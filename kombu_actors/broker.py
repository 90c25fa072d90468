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

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from ssl import SSLContext
from typing import Any

from ._native.backlog import BUFFER_MAX, Backlog
from ._native.block import Block
from ._native.channels import SharedChannel
from ._native.consuming import ErrorHandler, Handler, Key, OnError
from ._native.declarations import Declarations
from ._native.delivered import Delivered
from ._native.deliveries import Deliveries
from ._native.entries import MessageProperties
from ._native.opening import endpoints_and_transport
from ._native.publications import Publications
from ._native.requests import Requests
from ._native.streams import StreamOffset
from ._subscription import Subscription
from ._values.endpoint import FailoverStrategy, LinkOptions, body_max_of
from ._values.model import BODY_MAX, BindingKind, BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from .actors._waiting import CLOSE_GRACE
from .actors.connection import CONNECTION_BACKOFF, ConnectionActor
from .actors.consumer import SubscriptionGap
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
    "RestorationSucceeded",
    "RestorationWaiting",
    "StreamOffset",
    "Subscription",
    "SubscriptionGap",
    "Waiting",
    "open_broker",
]

NEGOTIATED = ("frame_max", "channel_max")
"""Transport options that the two ends agree on."""
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
    transport_options: Mapping[str, Any] | None = None,
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
    given = {"body_max": body_max, **(transport_options or {})}
    endpoints, transport = endpoints_and_transport(url, tls, given)
    options = LinkOptions(
        connect_timeout=connect_timeout,
        heartbeat=heartbeat,
        login_method=login_method,
        body_max=body_max_of(given),
        client_properties=client_properties or {},
        transport_options=given,
        **{name: value for name, value in given.items() if name in NEGOTIATED},
    )
    actor = ConnectionActor(
        transport,
        endpoints,
        options,
        failover_strategy=failover_strategy,
        insist=keep_dialling,
        backoff=backoff,
        stop_deadline=close_timeout,
        listener=listener,
    )
    async with actor.running():
        broker = Broker(actor, buffer_max)
        try:
            if wait:
                await actor.wait_ready()
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
        self._block = Block(actor)
        self._publishing = SharedChannel(actor)
        self._polling = SharedChannel(actor)
        self._requests = Requests(actor)
        self._subscriptions: set[Subscription] = set()
        self._backlog = Backlog(buffer_max, actor.pause_reading, actor.resume_reading)

    def refuse_calls(self) -> None:
        """End all calls, from now on and under way; publishes hear of their confirms until the tree has stopped."""
        self._block.close()
        self._publishing.forget()
        for subscription in self._subscriptions:
            subscription.fail(self._block.reason())

    def snapshot(self) -> ChildView:
        """The supervision tree as it is now: immutable, JSON-able."""
        return self._actor.supervisor.snapshot()

    def events(self, capacity: int = EVENTS) -> AbstractAsyncContextManager[EventStream]:
        """``async with broker.events() as stream``: supervision events as they happen; drops the oldest when full."""
        self._block.check_open()
        return self._actor.supervisor.events(capacity)

    def waiting(self) -> list[Waiting]:
        """What of the declared topology the broker refuses to restore just now: why, since when, and when it is
        tried again.  Consumers that wait are ``BACKING_OFF`` in the snapshot."""
        return self._actor.waiting

    async def wait_ready(self, *, timeout: float = math.inf) -> None:
        """Wait until the session is up and the declared topology holds, but for what ``waiting`` tells.

        There is no deadline by default: an outage takes what it takes.
        """
        await self._block.call("getting ready", timeout, self._actor.wait_ready)
