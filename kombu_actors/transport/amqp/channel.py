"""One AMQP channel of a live link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from amqp import spec as amqp_spec

from ..._values.model import (
    ConsumerSpec,
    Delivery,
    Returned,
    Sent,
)
from ...protocols.amqp import LocalProtocolError, PeerProtocolError, Prepared
from ...protocols.amqp.events import Confirmed, Got, MessageDelivered, Oversized, Replied
from ...protocols.amqp.methods import request
from ...protocols.amqp.sender import Lone
from .._oversized import report_oversized, too_large
from .._waiting import PendingReply
from .declaring import DeclaringChannel

if TYPE_CHECKING:
    from .._contract import DeliverySink
    from .link import AMQPLink

__all__ = ["AMQPChannel"]


class _Consumer:
    __slots__ = ("on_cancel", "sink", "spec")

    def __init__(self, spec: ConsumerSpec, sink: DeliverySink, on_cancel: Callable[[], None]) -> None:
        self.spec = spec
        self.sink = sink
        self.on_cancel = on_cancel


class AMQPChannel(DeclaringChannel):
    """A channel as ``transport._contract.LinkChannel`` describes it.

    Made by ``AMQPLink.open_channel``.
    """

    __slots__ = ("_acked", "_consumers", "_on_confirm", "_on_return", "_owed", "_settled", "check", "highest_tag")

    reorders = False

    def __init__(self, link: AMQPLink, number: int) -> None:
        super().__init__(link, number)
        self.check: Callable[[Prepared], None] = link.engine.check
        """Raise ``ValueError`` for what doesn't fit the limits agreed on with the broker."""
        self.highest_tag = 0
        self._settled = 0
        """All deliveries up to this tag have been settled."""
        self._acked = b""
        """The last frame that acknowledged all of them."""
        self._consumers: dict[str, _Consumer] = {}
        self._on_confirm: Callable[[int, bool, bool], None] | None = None
        self._on_return: Callable[[Returned], None] | None = None
        self._owed: Callable[[], bool] | None = None

    def die(self, reason: BaseException) -> None:
        """Take note that the channel is dead."""
        self._consumers.clear()
        self._link.confirming.discard(self)
        super().die(reason)

    # -- consuming -----------------------------------------------------------------------------

    def prefetch(self, count: int) -> None:
        """Bound unacknowledged deliveries; 0 is no bound.  It leaves with whatever leaves next."""
        self._ending.check()
        try:
            self._engine.request(self.number, request("basic.qos", 0, count, False), PendingReply())
        except LocalProtocolError:
            raise self._has_just_ended() from None
        self._link.mention()

    async def qos(self, *, prefetch_count: int = 0, prefetch_size: int = 0, apply_global: bool = False) -> None:
        """Bound unacknowledged deliveries; 0 is no bound."""
        if prefetch_size and self._is_rabbitmq:
            self._refuse(540, f"RabbitMQ has no prefetch_size (was {prefetch_size})", amqp_spec.Basic.Qos)
        await self._call(request("basic.qos", prefetch_size, prefetch_count, apply_global))

    async def consume(self, spec: ConsumerSpec, sink: DeliverySink, on_cancel: Callable[[], None]) -> str:
        """Subscribe; return the tag once the broker said consume-ok.

        Cancelled, the subscription is taken back as soon as the broker grants it, and what it
        delivered meanwhile is requeued.
        """
        if spec.tag and spec.tag in self._consumers:
            self._refuse(530, f"consumer tag {spec.tag!r} is in use on channel {self.number}", amqp_spec.Basic.Consume)

        def subscribe(reply: Replied) -> None:
            self._consumers[reply.arguments[0]] = _Consumer(spec, sink, on_cancel)

        def unsubscribe(reply: Replied) -> None:
            (tag,) = reply.arguments
            self._consumers[tag] = _Consumer(spec, discard if spec.no_ack else self._requeue, lambda: None)
            cancel = request("basic.cancel", tag, False)
            self.take_back(self._engine.request, cancel, PendingReply(applied=self._forget_consumer))

        def discard(deliveries: list[Delivery]) -> None:
            """Nobody can get back what was sent without waiting for an ack."""

        flags = (spec.no_local, spec.no_ack, spec.exclusive, False)
        question = request("basic.consume", 0, spec.queue, spec.tag, *flags, spec.arguments)
        reply: Replied = await self._call(question, applied=subscribe, undo=unsubscribe)
        tag: str = reply.arguments[0]
        return tag

    async def cancel(self, tag: str) -> None:
        """End a subscription; its sink gets nothing after this returns."""
        forget = self._forget_consumer
        await self._call(request("basic.cancel", tag, False), applied=forget, undo=forget)

    async def get(self, queue: str, *, no_ack: bool = False) -> tuple[Delivery, int] | None:
        """Poll one message; with it, how many are left in the queue.

        Cancelled, a message that still comes is requeued (with ``no_ack`` it is lost).

        Raises:
            ContentTooLarge: it is larger than ``body_max``, and was rejected; get again for the next one.
        """

        def give_back(reply: Got | Replied | Oversized) -> None:
            if isinstance(reply, Got) and not no_ack:
                self._requeue([reply.delivery])
            elif isinstance(reply, Oversized):
                self._reject_oversized(reply, reply.arguments[0], queue, no_ack)

        reply = await self._call(request("basic.get", 0, queue, no_ack), undo=give_back)
        if isinstance(reply, Oversized):
            self._reject_oversized(reply, reply.arguments[0], queue, no_ack)
            raise too_large(reply.size, self._engine.body_max, queue=queue, no_ack=no_ack)
        if not isinstance(reply, Got):
            return None
        self.highest_tag = reply.delivery.delivery_tag
        return reply.delivery, reply.remaining

    async def recover(self, *, requeue: bool = False) -> None:
        """Ask for all unacknowledged deliveries again."""
        if not requeue and self._is_rabbitmq:
            self._refuse(540, "RabbitMQ recovers with requeue=True only", amqp_spec.Basic.Recover)
        await self._call(request("basic.recover", requeue))

    async def flow(self, active: bool) -> None:
        """Ask the broker to stop or resume deliveries."""
        if not active and self._is_rabbitmq:
            self._refuse(
                540,
                "RabbitMQ has no channel.flow(active=False): use qos, or cancel the consumer",
                amqp_spec.Channel.Flow,
            )
        await self._call(request("channel.flow", active))

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to ``tag``.

        One after the other, with nothing unsettled before them, they are one frame as long as it has not left: it
        costs the broker as little as us, who then sends their successors together.
        """
        if self._ending.reason is not None:
            self._ending.check()
        try:
            if tag == self._settled + 1 or (multiple and tag > self._settled):
                self._acked = self._engine.ack_up_to(self.number, tag, self._acked)
                self._settled = tag
            else:
                self._engine.ack(self.number, tag, multiple)
                self._note_settled(tag, multiple)
        except LocalProtocolError:
            raise self._has_just_ended() from None
        self._wake()

    def ack_each(self, tags: list[int]) -> None:
        """Acknowledge these deliveries, in any order."""
        last = max(tags)
        if min(tags) == self._settled + 1 and last - self._settled == len(set(tags)) == len(tags):
            self.ack(last, multiple=True)
            return
        for tag in tags:
            self.ack(tag)

    def _note_settled(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._settled = max(self._settled, tag or self.highest_tag)
        elif tag == self._settled + 1:
            self._settled = tag

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse one delivery, or all up to ``tag``."""
        self._settle(self._engine.nack, tag, multiple, requeue)
        self._note_settled(tag, multiple)

    def reject(self, tag: int, *, requeue: bool = False) -> None:
        """Refuse one delivery."""
        self._settle(self._engine.reject, tag, requeue)
        self._note_settled(tag, False)

    def _settle(self, act: Callable[..., None], *args: object) -> None:
        self._ending.check()
        try:
            act(self.number, *args)
        except LocalProtocolError:
            raise self._has_just_ended() from None
        self._wake()

    def _requeue(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.take_back(self._engine.reject, delivery.delivery_tag, True)
            self._note_settled(delivery.delivery_tag, False)

    def _reject_oversized(self, event: Oversized, delivery_tag: int, queue: str, no_ack: bool) -> None:
        exchange, routing_key = event.arguments[2:4] if event.token is not None else event.arguments[3:5]
        report_oversized(
            event.size, self._engine.body_max, queue=queue, exchange=exchange, routing_key=routing_key, no_ack=no_ack
        )
        if not no_ack and self._ending.reason is None:
            self._engine.reject(self.number, delivery_tag, False)
            self._note_settled(delivery_tag, False)
            self._wake()

    def _forget_consumer(self, reply: Replied) -> None:
        self._consumers.pop(reply.arguments[0], None)

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
        self._ending.check()
        self._on_confirm, self._on_return, self._owed = on_confirm, on_return, owed
        self._link.confirming.add(self)
        try:
            self._engine.tell(self.number, request("confirm.select", True))
        except LocalProtocolError:
            raise self._has_just_ended() from None
        self._wake()

    @property
    def awaiting_confirms(self) -> bool:
        """Whether the broker owes confirms."""
        return self._owed is not None and self._ending.reason is None and self._owed()

    async def wait_taken(self) -> None:
        """Wait until the broker has taken everything published before: it takes a channel's methods in order."""
        await self._call(request("channel.flow", True))

    def flush(self) -> None:
        """Let what was appended leave at once if nothing stands in its way."""
        self._link.flush()

    def publish(self, prepared: Prepared) -> None:
        """Append one publish to the outbox.  Never blocks; the caller bounds what is under way."""
        if self._ending.reason is not None:
            self._ending.check()
        try:
            self._engine.publish(self.number, prepared)
        except LocalProtocolError:
            raise self._has_just_ended() from None
        self._wake()

    def withdraw(self, prepared: Prepared) -> bool:
        """False: what was appended may have arrived."""
        return False

    def publish_now(self, prepared: Prepared, note: Callable[[Lone], object]) -> Sent:
        """``publish`` from any thread, if nothing waits and the socket takes it."""
        if self._ending.reason is not None or self._link.resting:
            return Sent.NOTHING
        try:
            lone = self._engine.publish_alone(self.number, prepared)
        except LocalProtocolError:
            return Sent.NOTHING  # the broker closed the channel meanwhile
        note(lone)
        return self._link.send_alone(lone, self._ending)

    def ack_now(self, tag: int, *, multiple: bool = False) -> Sent:
        """``ack`` from any thread, if nothing waits and the socket takes it."""
        sent = self._link.send_alone(self._engine.ack_alone(self.number, tag, multiple), self._ending)
        if sent is not Sent.NOTHING:
            self._note_settled(tag, multiple)
        return sent

    # -- what the reader hands over ------------------------------------------------------------

    def consumes(self, tag: str) -> bool:
        """Whether there is a consumer of that tag."""
        return tag in self._consumers

    def deliver(self, event: MessageDelivered) -> bool:
        """Pass a batch to its consumer; False when there is none."""
        consumer = self._consumers.get(event.consumer_tag)
        if consumer is None:
            return False
        self.highest_tag = event.deliveries[-1].delivery_tag
        consumer.sink(event.deliveries)
        return True

    def on_oversized(self, event: Oversized) -> None:
        """Reject a delivery that is too large; a message that comes back comes back without its body."""
        if event.method == "basic.return":
            code, text, exchange, routing_key = event.arguments
            report_oversized(event.size, self._engine.body_max, queue=None, exchange=exchange, routing_key=routing_key)
            self.on_returned(Returned(code, text, exchange, routing_key, {}, b""))
            return
        consumer = self._consumers.get(event.arguments[0])
        if consumer is not None:
            self._reject_oversized(event, event.arguments[1], consumer.spec.queue, consumer.spec.no_ack)

    def on_confirmed(self, event: Confirmed) -> None:
        """Pass a confirm to the publisher, who counts what it has sent."""
        if self._ending.reason is not None:
            return
        try:
            if self._on_confirm is None:
                raise LookupError("nobody asked for confirms")
            self._on_confirm(event.tag, event.multiple, event.accepted)
        except LookupError as error:
            text = f"a confirm for publish {event.tag} on channel {self.number}: {error}"
            raise PeerProtocolError(503, text) from None

    def on_returned(self, returned: Returned) -> None:
        """Pass a returned message to the publisher; without confirms nobody is there to take it."""
        if self._on_return is not None and self._ending.reason is None:
            self._on_return(returned)

    def on_cancelled(self, tag: str) -> None:
        """Tell a consumer that the broker ended its subscription."""
        consumer = self._consumers.pop(tag, None)
        if consumer is not None:
            consumer.on_cancel()
