"""The part of ``Broker`` that receives: ``subscribe``, ``get``, and what ``consume`` is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TypedDict, Unpack

import trio

from .._subscription import Subscription
from .._values.model import ConsumerSpec, QoS
from ..actors.channel import Epoch
from ..actors.connection import ConnectionActor
from ..supervisors._interrupts import guarded, protected
from ..utils.uuid import uuid
from .backlog import Backlog
from .channels import SharedChannel
from .consuming import Crew, ErrorHandler, Handler, Key, OnError
from .delivered import Delivered, Terms
from .intake import Intake
from .place import CALL_TIMEOUT, Place
from .streams import OFFSET, StreamOffset, StreamPosition

PREFETCH = 100
"""Unsettled messages per subscription: keeps a consumer busy over a ~1 ms round trip at 100,000/s."""


class Wishes(TypedDict):
    """What ``consume`` hands on to ``subscribe``."""

    exclusive: bool
    priority: int | None
    accept: Collection[str] | None
    arguments: Mapping[str, object] | None
    timeout: float


@protected
class Deliveries:
    """The calls that receive messages."""

    _actor: ConnectionActor
    _place: Place
    _polling: SharedChannel
    _subscriptions: set[Subscription]
    _backlog: Backlog
    _turns: trio.CapacityLimiter

    async def get(
        self, queue: str, *, no_ack: bool = False, accept: Collection[str] | None = None, timeout: float = CALL_TIMEOUT
    ) -> Delivered | None:
        """The next message of a queue, or None when none is ready.  To wait for messages, ``subscribe``.

        It must be settled, as one of a subscription; what isn't goes back when the block of ``open_broker`` is left.

        Raises:
            NotFound, AccessRefused, ResourceLocked: the queue does not exist, or is not to be read.  This costs the
                channel of all ``get``s: messages that they returned and that are not settled come again.
            ContentTooLarge: it is larger than ``body_max``, and was rejected; the next call has the next message.
            ChannelLimitExceeded: the connection has no channel left for it.

        Cancelled, a message that still comes is put back (with ``no_ack`` it is lost).
        """
        terms = Terms.of(accept, no_ack)
        names = self._actor.topology.names

        async def poll(epoch: Epoch) -> Delivered | None:
            found = await epoch.wire.get(names.current(queue), no_ack=no_ack)
            return None if found is None else Delivered(found[0], self._place.settling(epoch.wire), terms)

        async def get() -> Delivered | None:
            return await self._actor.on_wire(await self._polling.get(), poll)

        return await self._place.call(f"getting a message of queue {queue!r}", timeout, get)

    def subscribe(
        self,
        queue: str,
        *,
        prefetch: int = PREFETCH,
        no_ack: bool = False,
        exclusive: bool = False,
        priority: int | None = None,
        offset: StreamOffset | None = None,
        accept: Collection[str] | None = None,
        tag: str | None = None,
        arguments: Mapping[str, object] | None = None,
        timeout: float = CALL_TIMEOUT,
    ) -> AbstractAsyncContextManager[Subscription]:
        """``async with broker.subscribe("queue") as messages: async for message in messages: ...``.

        A subscription has its own channel, so its faults touch no other.  It is restored after every
        fault, with topology and QoS; messages of a dead epoch are not handed out.

        Args:
            prefetch: unsettled messages the broker may send ahead; 0 is no limit (then ``buffer_max`` is).
            no_ack: messages are settled as the broker sends them; it knows no prefetch then either.
            exclusive: nobody else may consume from the queue.
            priority: consumers of a higher one are served first, as long as they have room (0 by default).
            offset: where to begin in a stream: ``"first"``, ``"last"``, ``"next"`` (what comes from now on, the
                broker's default), a message's number, or a moment.  With it, the subscription goes on after a fault at
                the first message that was not settled; without, a stream is read from what is new then.
            accept: serializer names or content types that ``message.payload`` may decode; JSON when None.
            tag: the subscription's name at the broker; made up when None.
            arguments: others, under the broker's names.
            timeout: for entering the block; leaving it takes ``open_broker``'s ``close_timeout`` at most.

        Raises (on entering):
            NotFound, AccessRefused: the queue does not exist, or someone else consumes it exclusively.
            ChannelLimitExceeded: the connection has no channel left for it.
        """
        options = {"x-priority": priority, OFFSET: offset, **(arguments or {})}
        spec = ConsumerSpec(
            tag=tag or uuid(),
            queue=queue,
            no_ack=no_ack,
            exclusive=exclusive,
            arguments={name: value for name, value in options.items() if value is not None},
        )
        position = StreamPosition(offset) if offset is not None else None
        intake = Intake(self._actor, spec, position, self._place, self._backlog, self._turns)
        subscription = Subscription(Terms.of(accept, no_ack), self._place.shrank, intake, self._place.lot())
        intake.receiver = subscription
        begin = partial(intake.enter, QoS(prefetch_count=prefetch))
        enter = partial(self._place.call, f"subscribing to queue {queue!r}", timeout, begin)
        return _Subscribed(subscription, self._subscriptions, enter, partial(self._leave, intake))

    async def _leave(self, intake: Intake) -> None:
        await self._place.finish(intake.leave, self._actor.stop_deadline)

    @guarded
    async def _crew(
        self,
        queue: str,
        handler: Handler,
        concurrency: int,
        prefetch: int | None,
        key: Key | None,
        on_error: OnError | ErrorHandler,
        **options: Unpack[Wishes],
    ) -> AsyncIterator[Crew]:
        """What ``consume`` is about: a subscription, and who handles its messages."""
        if concurrency < 1:
            raise ValueError(f"concurrency is a number of handlers from 1 on, not {concurrency!r:.80}")
        if prefetch is None:
            prefetch = max(2 * concurrency, PREFETCH if key is not None else 0)
        async with self.subscribe(queue, prefetch=prefetch, **options) as messages:
            yield Crew(messages, handler, key, on_error)


@protected
class _Subscribed(AbstractAsyncContextManager[Subscription]):
    """A subscription's block.  No generator: of a thousand subscriptions each would keep one."""

    __slots__ = ("_enter", "_leave", "_open", "_subscription")

    def __init__(
        self,
        subscription: Subscription,
        open_ones: set[Subscription],
        enter: Callable[[], Awaitable[None]],
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        self._subscription = subscription
        self._open = open_ones
        self._enter: Callable[[], Awaitable[None]] | None = enter
        self._leave = leave

    async def __aenter__(self) -> Subscription:
        enter, self._enter = self._enter, None
        if enter is None:
            raise RuntimeError("this subscription has been entered before: subscribe again")
        try:
            await enter()
        except BaseException:
            await self._end()
            raise
        self._open.add(self._subscription)
        return self._subscription

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.discard(self._subscription)
        await self._end()

    async def _end(self) -> None:
        self._subscription.close()
        await self._leave()
