"""The asyncio API: the names of ``kombu_actors.broker``, for programs that run in asyncio, uvloop included.

    async with open_broker("amqp://") as broker:
        await broker.declare(QueueSpec(name="orders"))
        await broker.publish({"id": 1}, routing_key="orders")
        async with broker.subscribe("orders") as messages:
            async for message in messages:
                print(message.payload)
                message.ack()

The connection's tree lives in a thread of its own, which all connections of the process share: heartbeats and
recovery go on while the loop is busy.  Your code runs in your loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from ssl import SSLContext
from types import TracebackType

from ._aio.consuming import is_cancelled, tell_failed, uncancelled
from ._aio.listening import LoopListener
from ._aio.lots import NewsLot
from ._aio.place import LoopPlace
from ._aio.publishing import LoopPublishing
from ._bridge.looping import LoopHandle, running_loop
from ._native.backlog import BUFFER_MAX, Backlog
from ._native.block import Block
from ._native.channels import SharedChannel
from ._native.consuming import ErrorHandler, Handler, Key, OnError
from ._native.declarations import Declarations
from ._native.delivered import Delivered
from ._native.deliveries import Deliveries, Wishes
from ._native.entries import MessageProperties
from ._native.intake import beginnings
from ._native.opening import ConnectionOptions, connection_actor
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
from .errors import RuntimeStopped
from .supervisors import Backoff, ChildView, Event, EventStream

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
SNAPSHOT_PATIENCE = 5.0
"""Seconds for the runtime to look at a tree, which takes it less than a millisecond."""


def open_broker(
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
) -> AbstractAsyncContextManager[Broker]:
    """Connect and run the connection's tree while the block runs: ``async with open_broker(url) as broker:``.

    The arguments and their defaults are those of ``kombu_actors.broker.open_broker``, and what it raises, too.
    ``listener`` is called in your loop; ``failover_strategy`` is not, its iterator must not use what is the loop's.

    A process may have several, in several loops and threads; each is used in the loop that it was opened in.  When
    supervision gives up, the task that entered the block is cancelled, and the block raises why.  Leaving the block
    takes ``close_timeout`` at most, also for a task that is cancelled; one that is cancelled twice doesn't wait for it.
    A loop that is closed while the block is entered ends the connection.

    Raises:
        RuntimeError: this is no task of asyncio's.
        BrokerUnreachable, AccessRefused, NotAllowed, InvalidURL: as there.
    """
    heard = LoopListener(listener) if listener is not None else None
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
        "listener": heard.hear if heard is not None else None,
        "close_timeout": close_timeout,
    }
    return _Opening(partial(connection_actor, url, **options), wait, buffer_max, heard)


class _Opening(AbstractAsyncContextManager["Broker"]):
    """The block of one broker, and the task that has entered it."""

    def __init__(
        self, make: Callable[[], ConnectionActor], wait: bool, buffer_max: int, heard: LoopListener | None
    ) -> None:
        self._make = make
        self._wait = wait
        self._buffer_max = buffer_max
        self._heard = heard
        self._broker: Broker | None = None
        self._task: asyncio.Task[object] | None = None
        """Who is inside; None when nobody is."""
        self._cancelling = 0
        self._failure: BaseException | None = None
        """Why supervision has given up, and cancelled who was inside."""

    async def __aenter__(self) -> Broker:
        running_loop()
        actor = self._make()
        handle = LoopHandle(actor, self._give_up)
        if self._heard is not None:
            self._heard.to_loop = handle.to_loop
        self._broker = Broker(handle, actor, self._buffer_max)
        try:
            if self._wait:
                await handle.call(actor.topology_calls.wait_ready)
        except BaseException:
            await self._broker.leave()
            raise
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        return self._broker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._broker is not None
        task, self._task = self._task, None
        if kind is GeneratorExit:
            self._broker.abandon()  # the task is being destroyed: it must not wait
            return
        try:
            await self._broker.leave()
        except asyncio.CancelledError:
            if self._failure is None:
                raise
        if self._failure is None or task is None:
            return
        others = task.uncancel() > self._cancelling
        if not others and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise self._failure from self._failure.__cause__

    def _give_up(self, error: BaseException) -> None:
        if self._broker is not None:
            self._broker.refuse_calls(error)
        if self._task is not None and self._failure is None:
            self._failure = error
            self._task.cancel("supervision of the broker's connection has given up")


class Broker(Declarations, Publications, Deliveries):
    """A running connection.  Get it from ``open_broker``.

    Each call has a ``timeout`` for all of its parts, waiting for a session included, in seconds; 30 are longer than
    a failover takes.  It raises ``DeadlineExceeded``, which says what the connection is like, and ``ConnectionClosed``
    as soon as the block of ``open_broker`` is left, also when it is waiting then.  A task that is cancelled in a call
    cancels it in the runtime, too, and goes on when it is over there, a fraction of a millisecond later.
    """

    def __init__(self, handle: LoopHandle, actor: ConnectionActor, buffer_max: int) -> None:
        self._handle = handle
        self._actor = actor
        self._backlog = Backlog(buffer_max, actor.pause_reading, actor.resume_reading)
        self._turns = beginnings()
        self._block = Block(actor, self._backlog)
        self._channel = RuntimePublishing(actor, self._block)
        self._place = self._loop_place = LoopPlace(handle, self._block, buffer_max)
        self._publishing = LoopPublishing(handle, self._loop_place, self._channel)
        self._polling = SharedChannel(actor)
        self._requests = Requests(actor, self._channel)
        self._subscriptions: set[Subscription] = set()
        self._readers: set[NewsLot] = set()

    def refuse_calls(self, why: BaseException | None = None) -> None:
        """End all calls, from now on and under way."""
        self._loop_place.close()
        with suppress(RuntimeStopped):
            self._handle.to_runtime.post(self._channel.forget)
        for subscription in self._subscriptions:
            subscription.fail(why or self._loop_place.reason())
        for reader in self._readers:
            reader.wake()

    async def leave(self) -> None:
        """Stop the tree in order, and wait for that."""
        self.refuse_calls()
        await self._handle.leave()

    def abandon(self) -> None:
        """Stop it, and wait for nothing."""
        self._handle.abandon()

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
        started: asyncio.Future[Subscription] | None = None,
    ) -> None:
        """Handle a queue's messages until cancelled, or until the subscription is stopped.

        ``await handler(message)`` is called for each, in up to ``concurrency`` tasks of a ``TaskGroup``.  A message
        whose handler returns is acked, unless the handler has settled it; ``on_error`` says what becomes of one whose
        handler raises.  A message whose session is lost while it is handled is delivered again; the log has a
        warning then.

        Args:
            concurrency, prefetch, key, on_error: as for ``kombu_actors.broker.Broker.consume``.
            exclusive, priority, accept, arguments, timeout: as for ``subscribe``.
            started: gets the ``Subscription`` when it is in force, or why it never was; ``await messages.stop()`` ends
                it in order: what is here is handled, then ``consume`` returns.

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
        tasks: list[asyncio.Task[None]] = []

        def stop() -> None:
            for task in tasks:
                task.cancel()

        try:
            crewed = self._crew(queue, uncancelled(handler), concurrency, prefetch, key, on_error, **wishes)
            async with crewed as crew:
                async with asyncio.TaskGroup() as group:
                    tasks += [group.create_task(crew.work(is_cancelled, stop)) for _ in range(concurrency)]
                    if started is not None and not started.done():
                        started.set_result(crew.messages)
                crew.check()
        except BaseException as error:
            if started is not None and not started.done():
                tell_failed(started, error)
            raise

    @property
    def blocked(self) -> str | None:
        """The broker's reason for taking no publishes, such as "low on memory"; None while it takes them."""
        return self._actor.blocked_because()

    def snapshot(self) -> ChildView:
        """The supervision tree as it is now: immutable, JSON-able.  Waits for the runtime, well under a millisecond."""
        return self._handle.portal.call(self._look, timeout=SNAPSHOT_PATIENCE)

    async def _look(self) -> ChildView:
        return self._actor.supervisor.snapshot()

    @asynccontextmanager
    async def events(self, capacity: int = EVENTS) -> AsyncIterator[EventStream]:
        """``async with broker.events() as stream``: supervision events as they happen; drops the oldest when full."""
        lot = NewsLot(self._handle.loop, self._handle.to_loop)
        entered: list[AbstractAsyncContextManager[EventStream]] = []

        async def enter() -> EventStream:
            events = self._actor.supervisor.events(capacity, lot)
            entered.append(events)
            return await events.__aenter__()

        async def leave() -> None:
            for events in entered:
                await events.__aexit__(None, None, None)

        try:
            stream = await self._place.call("listening to events", CALL_TIMEOUT, enter)
            self._readers.add(lot)
            yield stream
        finally:
            self._readers.discard(lot)
            await self._place.finish(leave, CALL_TIMEOUT)
