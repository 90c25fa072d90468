"""``Broker.request``: replies come over one queue of the connection's own, and find who waits by their number."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from .._logs import get_logger
from .._values.model import ConsumerSpec, Delivery
from ..actors.channel import Epoch
from ..actors.connection import ConnectionActor
from ..actors.consumer import DesiredConsumer
from ..actors.topology_calls import OwnQueue
from ..errors import ConnectionLost, PublishUnknown
from ..protocols.ledger import Entry
from ..supervisors._interrupts import protected
from ..utils.uuid import uuid
from .channels import SharedChannel
from .delivered import Delivered, Terms
from .publishing import RuntimePublishing

if TYPE_CHECKING:
    from ..transport._contract import DeliverySink

logger = get_logger("kombu_actors.requests")


@attrs.define(eq=False)
class _Call:
    """One request, until its reply has come or can't come any more."""

    terms: Terms
    waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Cancelled when the reply has come."""
    hoping: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Cancelled when it can't come any more."""
    reply: Delivered | None = None


@protected
class Requests:
    """The requests of one native broker.

    The queue for the replies is exclusive and named by the broker, so each session has its own: no old one is in the
    way while the broker has not noticed that its connection is gone.  What was asked over a former session is not
    answered any more, and whoever waits for it is told at once.
    """

    def __init__(self, actor: ConnectionActor, publishing: RuntimePublishing) -> None:
        self._actor = actor
        self._publishing = publishing
        self._channel = SharedChannel(actor)
        self._queue = OwnQueue()
        self._consumer: DesiredConsumer | None = None
        self._opening = trio.Lock()
        self._calls: dict[str, _Call] = {}

    async def ask(self, make: Callable[[str, str, float], Entry], timeout: float, terms: Terms) -> Delivered:
        """Send what ``make(reply_to, correlation_id, seconds_left)`` prepares, and wait for the reply.

        ``timeout`` is for the request to be confirmed; for the whole the caller sees to it.

        Raises:
            ConnectionLost: the session ended meanwhile, and with it the way for the reply.
            what ``make`` and ``RuntimePublishing.send`` raise.

        Cancelled, the reply is dropped when it comes.
        """
        at = trio.current_time() + timeout
        reply_to = await self._reply_queue()
        number, call = uuid(), _Call(terms)
        entry = make(reply_to, number, max(at - trio.current_time(), 0.0))
        self._calls[number] = call
        try:
            with call.hoping:
                await self._publishing.send(entry, max(at - trio.current_time(), 0.0))
                with call.waiting:
                    await trio.sleep_forever()
        except PublishUnknown:
            if call.reply is None:
                raise
        finally:
            del self._calls[number]
        if call.reply is None:
            raise ConnectionLost(
                f"the session ended before the reply to the request (exchange {entry.exchange!r}, routing key "
                f"{entry.routing_key!r}) had come: whether it was worked on is unknown"
            )
        return call.reply

    async def _reply_queue(self) -> str:
        """The name of the queue for replies, which is consumed from in the present session."""
        async with self._opening:
            channel = await self._channel.get()
            name = self._queue.name or await self._actor.topology_calls.declare_own_queue(self._queue)
            if self._consumer is None or self._consumer.spec.tag not in channel.consumers:
                # With acks: what was on its way to a consumer whose caller gave up goes to the next one.
                spec = ConsumerSpec(tag=uuid(), queue=name)
                consumer = DesiredConsumer(spec, self._sink, on_end=self._ended)
                await self._actor.consumers.add(channel, consumer)
                self._consumer = consumer
            consumer = self._consumer
        await self._actor.consumers.wait_subscribed(channel, consumer)
        return name

    def _sink(self, epoch: Epoch) -> DeliverySink:
        return partial(self._take, epoch)

    def _take(self, epoch: Epoch, batch: list[Delivery]) -> None:
        for delivery in batch:
            if epoch.wire.closed is None:
                epoch.wire.ack(delivery.delivery_tag)
            number = delivery.properties.get("correlation_id")
            call = self._calls.get(number) if isinstance(number, str) else None
            if call is None:
                logger.debug("a reply that nobody waits for any more was dropped")
            elif call.reply is None:
                call.reply = Delivered(delivery, epoch.wire, call.terms)
                call.waiting.cancel(reason="the reply has come")

    def _ended(self) -> None:
        for call in self._calls.values():
            if call.reply is None:
                call.hoping.cancel(reason="the session has ended, and with it the queue for the reply")
