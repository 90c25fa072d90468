"""One channel of a link to Redis: RabbitMQ's channel, kept by us where Redis has none.

The channel's death is this file's, its publishes ``confirms``', its deliveries ``deliveries``'; what must
survive them is on the server, under the link's name and the channel's number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from amqp import exceptions as amqp_errors

from ..._values.model import ConsumerSpec, Delivery, Returned, Sent
from ...errors import ConnectionClosed
from ...protocols.redis import consuming_calls as consuming
from ...protocols.redis.preparing import PreparedMessage
from .._checks import check
from .._oversized import too_large
from .._waiting import PendingReply
from .claims import WireConsumer, delivery
from .confirms import Confirms
from .declaring import DeclaringChannel
from .deliveries import Deliveries
from .publishing import Answer, Publish
from .settling import Decision

if TYPE_CHECKING:
    from .._contract import DeliverySink, LonePublish
    from .link import RedisLink

__all__ = ["RedisChannel"]

T = TypeVar("T")


class RedisChannel(DeclaringChannel):
    """A channel as ``transport._contract.LinkChannel`` describes it.  Made by ``RedisLink.open_channel``."""

    reorders = True  # a publish waits for the batch before its own

    def __init__(self, link: RedisLink, number: int) -> None:
        super().__init__(link, number)
        self._confirms = Confirms(self._ending, link.settling.settle)
        self.deliveries = Deliveries(self, link, self._confirms.settle)
        self._consumers: dict[str, WireConsumer] = {}
        self._leaving: trio.Event | None = None
        """Set when the server has given back what it held; None while it is open."""

    # -- life ----------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """What the server knows it by; nothing if it has neither consumed nor got anything."""
        return tuple(claimer.name for claimer in self.deliveries.claimers if claimer.used)

    @property
    def highest_tag(self) -> int:
        """The highest delivery tag so far."""
        return self.deliveries.last

    @property
    def consumed(self) -> list[str]:
        """The queues it consumes from."""
        return [subscription.spec.queue for subscription in self._consumers.values()]

    async def aclose(self) -> None:
        """Close politely, once what was published has been answered.

        Of one that has died of a mistake, wait until the server has given back what it held: a queue that goes with
        its last consumer does so then, and not after its successor has declared it again.

        Cancelled, the channel is closed all the same.
        """
        if self._ending.reason is None:
            try:
                await self._confirms.wait_answered()
            finally:
                self.end(ConnectionClosed(f"you closed channel {self.number} of the connection to {self.link.name}"))
                self._leave()
        else:
            await trio.lowlevel.checkpoint()
        if self._leaving is not None:
            await self._leaving.wait()

    def die(self, reason: BaseException) -> None:
        """End as the broker ends a channel over a mistake: what is unsettled goes back."""
        if self._ending.reason is None:
            self.end(reason)
            self._leave()

    def _leave(self) -> None:
        self._leaving = leaving = trio.Event()
        self.link.leave_soon(self, leaving.set)

    def link_died(self, reason: BaseException) -> None:
        """Nothing is given back over this link any more."""
        self.end(reason)
        if self._leaving is not None:
            self._leaving.set()

    def end(self, reason: BaseException) -> None:
        """Take note that the channel is dead."""
        if self._ending.reason is not None:
            return
        self._confirms.before_end()
        self._ending.happen(reason)
        for subscription in self._consumers.values():
            self.link.fanout.unsubscribe(subscription)
        self._consumers.clear()
        self.deliveries.end()
        self._confirms.end()
        self.link.publishing.queue.drop(self)
        self._ending.announce()

    # -- consuming -----------------------------------------------------------------------------

    async def qos(self, *, prefetch_count: int = 0, prefetch_size: int = 0, apply_global: bool = False) -> None:
        """Bound unacknowledged deliveries of the whole channel, as kombu does; 0 is ``prefetch_limit``."""
        if prefetch_size:
            raise amqp_errors.AMQPNotImplementedError(
                f"NOT_IMPLEMENTED - prefetch_size!=0 ({prefetch_size}) (refused locally)", reply_code=540
            )
        if not 0 <= prefetch_count < 65_536:
            raise ValueError(f"prefetch_count must be from 0 (no limit of yours) to 65535, not {prefetch_count}")
        await trio.lowlevel.checkpoint()
        self.prefetch(prefetch_count)

    def prefetch(self, count: int) -> None:
        """Bound unacknowledged deliveries of the whole channel; 0 is ``prefetch_limit``."""
        self._ending.check()
        self.deliveries.limit = count or self.link.options.prefetch_limit
        self.deliveries.refill()

    async def consume(self, spec: ConsumerSpec, sink: DeliverySink, on_cancel: Callable[[], None]) -> str:
        """Subscribe; return the tag.  Cancelled, the subscription is taken back."""
        check({"queue": spec.queue, "consumer_tag": spec.tag}, spec.arguments)
        await self.link.listening.wait_there()
        self._ending.check()
        if spec.tag in self._consumers:
            raise amqp_errors.NotAllowed(
                f"NOT_ALLOWED - attempt to reuse consumer tag '{spec.tag}' (refused locally)", reply_code=530
            )
        spec = spec.but(tag=spec.tag or f"amq.ctag-{self.link.fresh()}")
        subscription = WireConsumer(spec, sink, on_cancel)

        claimer = self.deliveries.claimers[spec.no_ack]
        claimer.used = True
        call = consuming.consume(claimer.name, spec.tag, spec.queue, sep=self.link.layout.sep, exclusive=spec.exclusive)

        def take_back(_: object) -> None:
            self.link.settling.insist(consuming.cancel(claimer.name, spec.tag, spec.queue), _nothing, _nothing)

        # Known from now on: that the queue was deleted may be heard before the answer, or while Pub/Sub is asked.
        self._consumers[spec.tag] = subscription
        try:
            granted = await self._ask(call, undo=take_back)
            self._ending.check()
            subscription.quorum = is_quorum(granted.declaration)
            if self._consumes(subscription):
                await self._listen(subscription, granted.topics, take_back)
        except BaseException:
            if self._consumes(subscription):
                del self._consumers[spec.tag]
            raise
        if self._consumes(subscription):
            claimer.subscribe(subscription)
        return spec.tag

    def _consumes(self, subscription: WireConsumer) -> bool:
        return self._consumers.get(subscription.spec.tag) is subscription

    async def _listen(
        self, subscription: WireConsumer, topics: Sequence[consuming.Topic], take_back: Callable[[object], None]
    ) -> None:
        try:
            await self.link.fanout.subscribe(self, subscription, topics)
        except trio.Cancelled:
            self.link.fanout.unsubscribe(subscription)
            take_back(None)
            raise
        self._ending.check()

    async def cancel(self, tag: str) -> None:
        """End a subscription; its sink gets nothing after this returns."""
        check({"consumer_tag": tag})
        self._ending.check()
        subscription = self._consumers.pop(tag, None)
        if subscription is None:
            await trio.lowlevel.checkpoint()
            return
        self.link.fanout.unsubscribe(subscription)
        claimer = self.deliveries.claimers[subscription.spec.no_ack]
        await claimer.unsubscribe(subscription)
        pending: PendingReply[None] = PendingReply()
        cancel = consuming.cancel(claimer.name, tag, subscription.spec.queue)
        self.link.settling.insist(cancel, pending.resolve, pending.fail)
        await pending.wait()

    async def get(self, queue: str, *, no_ack: bool = False) -> tuple[Delivery, int] | None:
        """Poll one message; with it, how many are left in the queue.

        Cancelled, a message that still comes is given back (with ``no_ack`` it is lost).

        Raises:
            ContentTooLarge: the next message is; asking again gets the one after it.
        """
        check({"queue": queue})
        claimer = self.deliveries.claimers[0]
        claimer.used = True

        def give_back(got: consuming.Got) -> None:
            if got.claim:
                self.link.settling.settle(Decision.REQUEUE, [got.claim])

        while True:
            got = await self._ask(consuming.get(claimer.name, queue, no_ack=no_ack), undo=give_back)
            self.link.settling.attend(got.deaths, no_ack=no_ack)
            for death in got.deaths:
                if death.size:
                    lost = no_ack and not death.claim
                    raise too_large(death.size, self.link.terms.body_max, queue=queue, no_ack=lost)
            if got.more:
                continue
            if got.raw is None:
                return None
            envelope = self.link.settling.decoded(queue, got.claim, got.raw)
            if envelope is None:
                continue
            if self.link.settling.turned_away(queue, got.claim, envelope):
                raise too_large(len(envelope.body), self.link.terms.body_max, queue=queue, no_ack=no_ack)
            return delivery("", self.deliveries.add(got.claim), envelope), got.remaining

    async def recover(self, *, requeue: bool = False) -> None:
        """Ask for all unacknowledged deliveries again."""
        if not requeue:
            raise amqp_errors.AMQPNotImplementedError(
                "NOT_IMPLEMENTED - requeue=false (refused locally)", reply_code=540
            )
        self._ending.check()
        self.deliveries.settle(Decision.REQUEUE, self.deliveries.tags())
        await self.link.settling.settled()
        self._ending.check()

    async def flow(self, active: bool) -> None:
        """Nothing to resume; like RabbitMQ it can't be asked to stop deliveries."""
        if not active:
            text = "NOT_IMPLEMENTED - active=false (refused locally)"
            raise amqp_errors.AMQPNotImplementedError(text, reply_code=540)
        self._ending.check()
        await trio.lowlevel.checkpoint()

    # -- deliveries ----------------------------------------------------------------------------

    def queue_deleted(self, queue: str) -> None:
        """The consumers of a queue are cancelled: it is gone."""
        self.deliveries.queue_deleted(queue)
        for subscription in [each for each in self._consumers.values() if each.spec.queue == queue]:
            del self._consumers[subscription.spec.tag]
            self.link.fanout.unsubscribe(subscription)
            subscription.on_cancel()

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge one delivery, or all up to ``tag``."""
        self._settle_tags(Decision.ACK, tag, multiple)

    def ack_each(self, tags: list[int]) -> None:
        """Acknowledge these deliveries."""
        for tag in tags:
            self.ack(tag)

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Refuse one delivery, or all up to ``tag``."""
        self._settle_tags(Decision.REQUEUE if requeue else Decision.DISCARD, tag, multiple)

    def reject(self, tag: int, *, requeue: bool = False) -> None:
        """Refuse one delivery."""
        self._settle_tags(Decision.REQUEUE if requeue else Decision.DISCARD, tag, False)

    def _settle_tags(self, decision: Decision, tag: int, multiple: bool) -> None:
        self._ending.check()
        tags = self.deliveries.tags(tag, multiple=multiple)
        if tags or (multiple and not tag):
            self.deliveries.settle(decision, tags)
        else:
            text = f"PRECONDITION_FAILED - unknown delivery tag {tag}"
            self.die(amqp_errors.PreconditionFailed(text, (60, 80), reply_code=406))

    def watch_gaps(self, tag: str, watcher: Callable[[float, float, int], None]) -> bool:
        """Whether its queue gets broadcasts that only Pub/Sub has; then ``watcher`` is told of those dropped here."""
        subscription = self._consumers.get(tag)
        return subscription is not None and self.link.fanout.watch_gaps(subscription.spec.queue, tag, watcher)

    # -- publishing ----------------------------------------------------------------------------

    def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
        owed: Callable[[], bool] | None = None,
        on_refused: Callable[[int, BaseException], None] | None = None,
    ) -> None:
        """Turn on confirms; see ``LinkChannel.confirm_select``: pausing holds up none."""
        self._ending.check()
        self._confirms.select(on_confirm, on_return, on_refused)

    def check(self, prepared: PreparedMessage) -> None:
        """Nothing was agreed on: what could be prepared can be published."""

    def publish(self, prepared: PreparedMessage) -> None:
        """Append one publish to the outbox.  Never blocks; the caller bounds what is under way."""
        self._ending.check()
        self.link.publishing.publish(Publish(self, self._confirms.next_number(), prepared))

    def withdraw(self, prepared: PreparedMessage) -> bool:
        """Take one publish back that waits: for its batch, or because the server takes none (maxmemory)."""
        withdrawn = self.link.publishing.queue.withdraw(self, prepared)
        if withdrawn and not self.link.publishing.queue.holds(self):
            self._confirms.answered_up_to(self._confirms.published)
        return withdrawn

    async def wait_taken(self) -> None:
        """Wait until the server has answered everything published before."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._confirms.wait_answered()
        self._ending.check()

    def flush(self) -> None:
        """Let what was appended leave at once if nothing stands in its way."""
        self.link.flush()

    def publish_now(self, prepared: PreparedMessage, note: Callable[[LonePublish], object]) -> Sent:
        """Nothing: batches are made in the link's thread."""
        return Sent.NOTHING

    def ack_now(self, tag: int, *, multiple: bool = False) -> Sent:
        """Nothing: batches are made in the link's thread."""
        return Sent.NOTHING

    def answered(self, publishes: Sequence[Answer]) -> None:
        """The server has answered some publishes of this channel."""
        last = not self.link.publishing.queue.holds(self)  # those after it may have been withdrawn
        self._confirms.answered_up_to(self._confirms.published if last else publishes[-1][0].tag)
        fatal = self._confirms.tell(publishes)
        if fatal is not None:
            self.die(fatal)


def is_quorum(declaration: Mapping[str, Any]) -> bool:
    """Whether a queue counts deliveries."""
    return bool(declaration.get("policy", {}).get("quorum"))


def _nothing(_: object) -> None:
    """Nobody waits for this reply."""
