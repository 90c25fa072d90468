"""One channel of a link to a broker in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import attrs
import trio
from amqp import exceptions as amqp_errors

from ..._values.model import BindingSpec, ConsumerSpec, Delivery, ExchangeSpec, QueueInfo, QueueSpec, Returned, Sent
from ...errors import ConnectionClosed
from ...protocols.virtual import EXCHANGE_TYPES, Channel, Confirmed, Consumer, MessageReturned
from .._checks import check, check_binding
from .._oversized import report_oversized, too_large
from .._waiting import OneLife

if TYPE_CHECKING:
    from .._contract import DeliverySink, LonePublish, Prepared
    from .link import MemoryLink

__all__ = ["MemoryChannel", "WireConsumer"]

R = TypeVar("R")


@attrs.define(eq=False)
class WireConsumer:
    """Where a consumer's deliveries go."""

    channel: MemoryChannel
    sink: DeliverySink
    on_cancel: Callable[[], None]


class MemoryChannel(OneLife):
    """A channel as ``transport._contract.LinkChannel`` describes it.

    Made by ``MemoryLink.open_channel``.  What RabbitMQ answers by ending the whole connection
    (503, 530, 540) is refused before it gets there, as the AMQP transport does.
    """

    reorders = False

    def __init__(self, link: MemoryLink, engine: Channel) -> None:
        super().__init__()
        self.number = engine.number
        self.highest_tag = 0
        self._link = link
        self._engine = engine
        self._on_confirm: Callable[[int, bool, bool], None] | None = None
        self._on_return: Callable[[Returned], None] | None = None
        self._owed: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return f"<MemoryChannel {self.number} of {self._link.name}, {'open' if self.closed is None else 'dead'}>"

    # -- life ----------------------------------------------------------------------------------

    @property
    def engine(self) -> Channel:
        """The broker's side of the channel."""
        return self._engine

    async def aclose(self) -> None:
        """Close politely; a no-op when already dead.  Cancelled, the channel is closed all the same."""
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        self.die(ConnectionClosed(f"you closed channel {self.number} of the connection to {self._link.name}"))
        await self._link.call(self._engine.close, applied=self._forget, undo=self._forget)

    def _forget(self, _: None) -> None:
        self._link.forget(self)

    def die(self, reason: BaseException) -> None:
        """Take note that the channel is dead."""
        self._ending.happen(reason)
        self._ending.announce()

    async def _call(self, serve: Callable[[], R], *, undo: Callable[[R], None] | None = None) -> R:
        self._ending.check()
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._link.call(serve, undo=undo)

    def _send(self, command: Callable[..., None], *args: object, **kwargs: object) -> None:
        self._ending.check()
        self._link.send(command, *args, **kwargs)

    # -- topology ------------------------------------------------------------------------------

    async def exchange_declare(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        """Declare an exchange, or with ``passive`` check that it exists."""
        check({"exchange": spec.name, "type": spec.type}, spec.arguments)
        if not passive and spec.type not in EXCHANGE_TYPES:
            refuse(503, f"COMMAND_INVALID - unknown exchange type '{spec.type}'", (40, 10))
        await self._call(lambda: self._engine.exchange_declare(spec, passive=passive))

    async def exchange_delete(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange."""
        check({"exchange": name})
        await self._call(lambda: self._engine.exchange_delete(name, if_unused=if_unused))

    async def exchange_bind(self, binding: BindingSpec) -> None:
        """Bind an exchange to an exchange."""
        check_binding(binding)
        await self._call(lambda: self._engine.exchange_bind(binding))

    async def exchange_unbind(self, binding: BindingSpec) -> None:
        """Undo ``exchange_bind``."""
        check_binding(binding)
        await self._call(lambda: self._engine.exchange_unbind(binding))

    async def queue_declare(self, spec: QueueSpec, *, passive: bool = False) -> QueueInfo:
        """Declare a queue, or with ``passive`` look at it; an empty name lets the broker choose."""
        check({"queue": spec.name}, spec.arguments)
        fresh = self._link.fresh_name("amq.gen-")
        return await self._call(lambda: self._engine.queue_declare(spec, passive=passive, fresh_name=fresh))

    async def queue_delete(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue; return how many messages went with it."""
        check({"queue": name})
        return await self._call(lambda: self._engine.queue_delete(name, if_unused=if_unused, if_empty=if_empty))

    async def queue_bind(self, binding: BindingSpec) -> None:
        """Bind a queue to an exchange."""
        check_binding(binding)
        await self._call(lambda: self._engine.queue_bind(binding))

    async def queue_unbind(self, binding: BindingSpec) -> None:
        """Undo ``queue_bind``."""
        check_binding(binding)
        await self._call(lambda: self._engine.queue_unbind(binding))

    async def queue_purge(self, name: str) -> int:
        """Drop a queue's ready messages; return how many."""
        check({"queue": name})
        return await self._call(lambda: self._engine.queue_purge(name))

    # -- consuming -----------------------------------------------------------------------------

    def prefetch(self, count: int) -> None:
        """Bound unacknowledged deliveries; 0 is no bound."""
        self._send(self._engine.qos, prefetch_count=count)

    async def qos(self, *, prefetch_count: int = 0, prefetch_size: int = 0, apply_global: bool = False) -> None:
        """Bound unacknowledged deliveries; 0 is no bound."""
        if prefetch_size:
            refuse(540, f"NOT_IMPLEMENTED - prefetch_size!=0 ({prefetch_size})", (60, 10))
        if not 0 <= prefetch_count < 65_536:
            raise ValueError(f"prefetch_count must be from 0 (no limit) to 65535, not {prefetch_count}")
        await self._call(lambda: self._engine.qos(prefetch_count=prefetch_count, apply_global=apply_global))

    async def consume(self, spec: ConsumerSpec, sink: DeliverySink, on_cancel: Callable[[], None]) -> str:
        """Subscribe; return the tag once the broker said consume-ok.

        Cancelled, the subscription is taken back, and what it delivered meanwhile is requeued.
        """
        check({"queue": spec.queue, "consumer_tag": spec.tag}, spec.arguments)
        if spec.tag in self._engine.consumers:
            refuse(530, f"NOT_ALLOWED - attempt to reuse consumer tag '{spec.tag}'", (60, 20))
        subscription = WireConsumer(self, sink, on_cancel)
        fresh = self._link.fresh_name("amq.ctag-")

        def unsubscribe(consumer: Consumer) -> None:
            subscription.sink = _discard if spec.no_ack else self._requeue
            subscription.on_cancel = _ignore
            self._link.send(self._engine.withdraw, consumer.tag)

        consumer = await self._call(lambda: self._engine.consume(spec, subscription, fresh_tag=fresh), undo=unsubscribe)
        return consumer.tag

    async def cancel(self, tag: str) -> None:
        """End a subscription; its sink gets nothing after this returns."""
        check({"consumer_tag": tag})
        await self._call(lambda: self._engine.cancel(tag))

    async def get(self, queue: str, *, no_ack: bool = False) -> tuple[Delivery, int] | None:
        """Poll one message; with it, how many are left in the queue.

        Cancelled, a message that still comes is requeued (with ``no_ack`` it is lost).

        Raises:
            ContentTooLarge: it is larger than ``body_max``, and was rejected; get again for the next one.
        """

        check({"queue": queue})

        def give_back(found: tuple[Delivery, int] | None) -> None:
            if found is not None and not no_ack:
                self._requeue([found[0]])

        found = await self._call(lambda: self._engine.get(queue, no_ack=no_ack), undo=give_back)
        if found is not None and not self.without_oversized([found[0]], queue, no_ack=no_ack):
            raise too_large(len(found[0].body), self._link.body_max, queue=queue, no_ack=no_ack)
        if found is not None:
            self.highest_tag = found[0].delivery_tag
        return found

    async def recover(self, *, requeue: bool = False) -> None:
        """Ask for all unacknowledged deliveries again."""
        if not requeue:
            refuse(540, "NOT_IMPLEMENTED - requeue=false", (60, 110))
        await self._call(lambda: self._engine.recover(requeue=requeue))

    async def flow(self, active: bool) -> None:
        """Ask the broker to resume deliveries; like RabbitMQ it can't be asked to stop them."""
        if not active:
            refuse(540, "NOT_IMPLEMENTED - active=false", (20, 20))
        await self._call(lambda: self._engine.flow(active))

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to ``tag``."""
        self._send(self._engine.ack, tag, multiple=multiple)

    def ack_each(self, tags: list[int]) -> None:
        """Acknowledge these deliveries."""
        for tag in tags:
            self.ack(tag)

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse one delivery, or all up to ``tag``."""
        self._send(self._engine.nack, tag, multiple=multiple, requeue=requeue)

    def reject(self, tag: int, *, requeue: bool = False) -> None:
        """Refuse one delivery."""
        self._send(self._engine.reject, tag, requeue=requeue)

    def without_oversized(self, deliveries: list[Delivery], queue: str, *, no_ack: bool) -> list[Delivery]:
        """Reject what is larger than we take; return the others."""
        body_max = self._link.body_max
        taken = []
        for delivery in deliveries:
            size = len(delivery.body)
            if size <= body_max:
                taken.append(delivery)
                continue
            report_oversized(
                size,
                body_max,
                queue=queue,
                exchange=delivery.exchange,
                routing_key=delivery.routing_key,
                no_ack=no_ack,
            )
            if not no_ack:
                self._link.send(self._engine.reject, delivery.delivery_tag)
        return taken

    def _requeue(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._link.send(self._engine.reject, delivery.delivery_tag, requeue=True)

    def watch_gaps(self, tag: str, watcher: Callable[[float, float, int], None]) -> bool:
        """Never: a queue keeps what is published while nobody consumes from it."""
        return False

    # -- publishing ----------------------------------------------------------------------------

    def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
        owed: Callable[[], bool] | None = None,
        on_refused: Callable[[int, BaseException], None] | None = None,
    ) -> None:
        """Turn on confirms; see ``LinkChannel.confirm_select``."""
        self._on_confirm, self._on_return, self._owed = on_confirm, on_return, owed
        self._send(self._engine.confirm_select)

    @property
    def awaiting_confirms(self) -> bool:
        """Whether the broker owes confirms."""
        return self._owed is not None and self._ending.reason is None and self._owed()

    def withdraw(self, prepared: Prepared) -> bool:
        """False: what was appended may have arrived."""
        return False

    def publish_now(self, prepared: Prepared, note: Callable[[LonePublish], object]) -> Sent:
        """Nothing: the broker's thread is the link's."""
        return Sent.NOTHING

    def ack_now(self, tag: int, *, multiple: bool = False) -> Sent:
        """Nothing: the broker's thread is the link's."""
        return Sent.NOTHING

    async def wait_taken(self) -> None:
        """Wait until the broker has taken everything published before."""
        await self._call(lambda: self._engine.flow(True))

    def flush(self) -> None:
        """Nothing waits here: what was published is with the broker."""

    def check(self, prepared: Prepared) -> None:
        """Nothing was agreed on: what could be prepared can be published."""

    def publish(self, prepared: Prepared) -> None:
        """Hand one message to the broker.  Never blocks; the caller bounds what is under way."""
        self._send(self._engine.publish, prepared)
        self._link.look_for_answers()

    # -- what the dispatcher hands over --------------------------------------------------------

    def hear_confirm(self, confirmed: Confirmed) -> None:
        """Pass a confirm to the publisher."""
        if self._on_confirm is not None and self._ending.reason is None:
            self._on_confirm(confirmed.tag, confirmed.multiple, confirmed.accepted)

    def hear_return(self, effect: MessageReturned) -> None:
        """Pass a returned message to the publisher; without confirms nobody is there to take it."""
        if self._on_return is not None and self._ending.reason is None:
            self._on_return(effect.returned)


def refuse(code: int, text: str, method: tuple[int, int]) -> None:
    """Raise what the broker's connection.close would have raised; nothing was sent."""
    text = f"{text} (refused locally: it would end the connection)"
    raise amqp_errors.error_for_code(code, text, method, amqp_errors.ConnectionError)


def _discard(deliveries: list[Delivery]) -> None:
    """Nobody can get back what was sent without waiting for an ack."""


def _ignore() -> None:
    """Nobody waits for this subscription any more."""
