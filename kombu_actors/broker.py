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
from collections.abc import AsyncIterator, Callable, Collection, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from ._native.backlog import BUFFER_MAX, Backlog
from ._native.block import CALL_TIMEOUT, Block
from ._native.entries import encode, make_entry
from ._native.opening import endpoints_and_transport
from ._subscription import Delivered, Subscription
from ._values.endpoint import LinkOptions, body_max_of
from ._values.model import BODY_MAX, BindingKind, BindingSpec, ConsumerSpec, ExchangeSpec, QoS, QueueInfo, QueueSpec
from .actors._waiting import CLOSE_GRACE
from .actors.channel import ChannelActor, Consumer, SubscriptionGap
from .actors.connection import CONNECTION_BACKOFF, ConnectionActor
from .actors.restoring import QueueRenamed, RestorationSucceeded, RestorationWaiting
from .actors.waitlist import Waiting
from .serialization import prepare_accept_content
from .supervisors import Backoff, ChildView, Event, EventStream
from .supervisors._interrupts import guarded, protected
from .utils.uuid import uuid

__all__ = [
    "BindingKind",
    "BindingSpec",
    "Broker",
    "Delivered",
    "ExchangeSpec",
    "QueueInfo",
    "QueueRenamed",
    "QueueSpec",
    "RestorationSucceeded",
    "RestorationWaiting",
    "Subscription",
    "SubscriptionGap",
    "Waiting",
    "open_broker",
]

NEGOTIATED = ("frame_max", "channel_max")
"""Transport options that the two ends agree on."""
EVENTS = 256
"""Supervision events that wait for whoever reads them: what a fault makes at a connection with fifty consumers."""
PREFETCH = 100
"""Unsettled messages per subscription: keeps a consumer busy over a ~1 ms round trip at 100,000/s."""


@guarded
async def open_broker(
    url: str | Sequence[str],
    *,
    tls: Any = False,
    connect_timeout: float = 5.0,
    heartbeat: float = 15.0,
    failover_strategy: Any = "round-robin",
    login_method: str = "PLAIN",
    wait: bool = True,
    keep_dialling: bool = False,
    backoff: Backoff = CONNECTION_BACKOFF,
    body_max: int = BODY_MAX,
    client_properties: Mapping[str, Any] | None = None,
    transport_options: Mapping[str, Any] | None = None,
    listener: Callable[[Event], None] | None = None,
    close_grace: float = CLOSE_GRACE,
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
        close_grace: seconds that leaving the block may take, also when it is cancelled: for all goodbyes to the
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
        stop_deadline=close_grace,
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
class Broker:
    """A running connection.  Get it from ``open_broker``.

    Each call has a ``timeout`` for all of its parts, waiting for a session included, in seconds; 30 are longer than
    a failover takes.  It raises ``DeadlineExceeded``, which says what the connection is like, and ``ConnectionClosed``
    as soon as the block of ``open_broker`` is left, also when it is waiting then.
    """

    def __init__(self, actor: ConnectionActor, buffer_max: int) -> None:
        self._actor = actor
        self._block = Block(actor)
        self._publishing: ChannelActor | None = None
        self._opening = trio.Lock()
        self._subscriptions: set[Subscription] = set()
        self._backlog = Backlog(buffer_max, actor.pause_reading, actor.resume_reading)

    def refuse_calls(self) -> None:
        """End all calls, from now on and under way; publishes hear of their confirms until the tree has stopped."""
        self._block.close()
        self._publishing = None
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

    async def declare(
        self, *entities: ExchangeSpec | QueueSpec | BindingSpec, timeout: float = CALL_TIMEOUT
    ) -> QueueInfo | None:
        """Declare entities, in order, now and in every later session.  Returns what the last queue answered.

        Raises:
            PreconditionFailed, AccessRefused, ResourceLocked: the broker's refusal; nobody else is disturbed.

        Cancellation, and the deadline, leave the declaration under way: it may or may not happen.
        """

        async def declare_all() -> QueueInfo | None:
            info = None
            for entity in entities:
                if isinstance(entity, ExchangeSpec):
                    await self._actor.declare_exchange(entity)
                elif isinstance(entity, QueueSpec):
                    info = await self._actor.declare_queue(entity)
                else:
                    await self._actor.bind(entity)
            return info

        return await self._block.call("declaring", timeout, declare_all)

    async def inspect_queue(self, name: str, *, timeout: float = CALL_TIMEOUT) -> QueueInfo:
        """How many messages and consumers a queue has; ``NotFound`` when there is none."""
        look = partial(self._actor.declare_queue, QueueSpec(name=name), passive=True)
        return await self._block.call(f"looking at queue {name!r}", timeout, look)

    def queue_name(self, name: str) -> str:
        """The name by which the broker knows a queue now.

        A queue that the broker named has another name when it had to be made again after a fault.  It goes by any of
        its names in all calls here, ``publish``'s ``routing_key`` (to the default exchange) and ``reply_to``
        included; others have to be told this one.  ``QueueRenamed`` is the event.
        """
        return self._actor.topology.names.current(name)

    async def unbind(self, binding: BindingSpec, *, timeout: float = CALL_TIMEOUT) -> None:
        """Remove a binding, for good."""
        await self._block.call("unbinding", timeout, partial(self._actor.unbind, binding))

    async def delete_queue(
        self, name: str, *, if_unused: bool = False, if_empty: bool = False, timeout: float = CALL_TIMEOUT
    ) -> int:
        """Delete a queue, for good; returns how many messages went with it."""
        delete = partial(self._actor.delete_queue, name, if_unused=if_unused, if_empty=if_empty)
        return await self._block.call(f"deleting queue {name!r}", timeout, delete)

    async def delete_exchange(self, name: str, *, if_unused: bool = False, timeout: float = CALL_TIMEOUT) -> None:
        """Delete an exchange, for good."""
        delete = partial(self._actor.delete_exchange, name, if_unused=if_unused)
        await self._block.call(f"deleting exchange {name!r}", timeout, delete)

    async def purge_queue(self, name: str, *, timeout: float = CALL_TIMEOUT) -> int:
        """Remove a queue's ready messages; returns how many there were."""
        return await self._block.call(f"purging queue {name!r}", timeout, partial(self._actor.purge_queue, name))

    async def publish(
        self,
        body: Any,
        *,
        routing_key: str = "",
        exchange: str = "",
        serializer: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        persistent: bool = True,
        mandatory: bool = False,
        timeout: float = CALL_TIMEOUT,
        **properties: Any,
    ) -> None:
        """Publish one message and wait until the broker has confirmed it.

        The body is serialized as JSON unless ``serializer`` or ``content_type`` says otherwise
        (with ``content_type`` it must be bytes or text already).  Over a lost session the publish is
        sent again, the same bytes, before anything newer.

        Raises:
            EncodeError, ValueError: the message can't be sent as it is, or not within what the broker has
                agreed to (``frame_max`` bounds its properties and headers); nothing was sent.
            ChannelLimitExceeded: the connection has no channel left to publish over.
            PublishReturned: mandatory, and no queue is bound.
            PublishRefused: the broker answered ``basic.nack``.
            NotFound, AccessRefused: no such exchange, or no right to write to it.
            PublishUnknown: no answer within ``timeout`` seconds; the broker may have it.
            DeadlineExceeded, ConnectionBlocked: no answer, and it was never written.
            ConnectionClosed: the block of ``open_broker`` was left, and it was never written.

        Cancellation leaves the outcome unknown; the message is not sent again afterwards.
        """
        encoded = encode(body, serializer, content_type, content_encoding)
        properties = {"delivery_mode": 2 if persistent else 1, "headers": headers or {}, **properties}
        entry = make_entry(self._actor, encoded, exchange, routing_key, properties, mandatory)
        channel = self._publishing
        if channel is None:
            at = trio.current_time() + timeout
            channel = await self._block.call("opening a channel to publish", timeout, self._publishing_channel)
            timeout = max(at - trio.current_time(), 0.0)
        channel.check_obstacle()
        await channel.publisher.send(entry, timeout)

    def subscribe(
        self,
        queue: str,
        *,
        prefetch: int = PREFETCH,
        no_ack: bool = False,
        exclusive: bool = False,
        accept: Collection[str] | None = None,
        tag: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> AbstractAsyncContextManager[Subscription]:
        """``async with broker.subscribe("queue") as messages: async for message in messages: ...``.

        A subscription has its own channel, so its faults touch no other.  It is restored after every
        fault, with topology and QoS; messages of a dead epoch are not handed out.

        Args:
            prefetch: unsettled messages the broker may send ahead; 0 is no limit (then ``buffer_max`` is).
            no_ack: messages are settled as the broker sends them; it knows no prefetch then either.
            accept: serializer names or content types that ``message.payload`` may decode; JSON when None.
            timeout: for entering the block; leaving it takes ``open_broker``'s ``close_grace`` at most.

        Raises (on entering):
            NotFound, AccessRefused: the queue does not exist, or someone else consumes it exclusively.
            ChannelLimitExceeded: the connection has no channel left for it.
        """
        return self._subscription(
            ConsumerSpec(tag=tag or uuid(), queue=queue, no_ack=no_ack, exclusive=exclusive, arguments=arguments or {}),
            QoS(prefetch_count=prefetch),
            prepare_accept_content(accept) if accept is not None else None,
            timeout,
        )

    @guarded
    async def _subscription(
        self, spec: ConsumerSpec, qos: QoS, accept: Container[str] | None, timeout: float
    ) -> AsyncIterator[Subscription]:
        subscription = Subscription(accept, spec.no_ack, self._backlog)
        channels: list[ChannelActor] = []

        async def enter() -> None:
            channels.append(await self._actor.open_channel(subscription.fail, qos=qos))
            await self._actor.add_consumer(channels[0], Consumer(spec, subscription.put))

        try:
            await self._block.call(f"subscribing to queue {spec.queue!r}", timeout, enter)
            self._subscriptions.add(subscription)
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            subscription.close()
            with trio.move_on_after(self._actor.stop_deadline, shield=True):
                for channel in channels:
                    await self._actor.close_channel(channel)

    async def _publishing_channel(self) -> ChannelActor:
        async with self._opening:
            if self._publishing is None:
                self._publishing = await self._actor.open_channel(self._publishing_gone)
        return self._publishing

    def _publishing_gone(self, error: BaseException) -> None:
        self._publishing = None
