"""The facade's channel: kombu's channel calls, made on a supervised channel actor.

Unlike kombu's, it survives its connection and its own death on the wire: QoS, consumers and
publishes belong to the actor, which brings them back.  Delivery tags seen here are unique over
all epochs, so a stale one is recognised and never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from amqp.exceptions import ChannelError, error_for_code

from .._bridge.channel import DesiredConsumer
from .._bridge.feeds import Arrival, ChannelNotice
from .._bridge.portal import CannotWait
from .._values.model import (
    Action,
    ConsumerSpec,
    Delivery,
    QoS,
    Returned,
)
from ..errors import UnknownProperty
from ..protocols.ledger import Entry
from ..utils.uuid import uuid
from .accepted import ACCEPTED, Accepted, returned_delivery, without_unknown
from .channel_topology import ChannelTopology
from .message import Message

T = TypeVar("T")

Prepared = tuple[bytes, dict[str, object]]
"""Body and properties, as ``prepare_message`` makes them and ``basic_publish`` takes them."""
Subscription = tuple[ConsumerSpec, Callable[[Message], object] | None, Callable[[str], object] | None]
"""A consumer, its callback, and who is told when the broker has ended it."""
FRAME_OVERHEAD = 256
"""Bytes that a publish's frames, headers and bookkeeping take beside its body, roughly."""


class Channel(ChannelTopology):
    """A channel of a :class:`~kombu_actors.Connection`; made by ``Connection.channel()``.

    Any method may be called from any thread.  Each ends by its deadline: ``timeout`` where there
    is one, else the connection's (30 s).
    """

    # Messages

    def prepare_message(
        self,
        body: bytes | str,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
    ) -> Prepared:
        """Put body and properties into the form that ``basic_publish`` takes."""
        prepared = dict(properties) if properties else {}
        if content_type is not None:
            prepared["content_type"] = content_type
        if content_encoding is not None:
            prepared["content_encoding"] = content_encoding
        if priority is not None:
            prepared["priority"] = priority
        prepared["headers"] = headers if headers is not None else {}
        return (body.encode() if isinstance(body, str) else body), prepared

    def basic_publish(
        self,
        message: Prepared,
        exchange: str = "",
        routing_key: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
    ) -> Accepted:
        """Hand one message to the publisher.

        ``message`` is what ``prepare_message`` made; properties that AMQP does not have are not sent,
        as in kombu, with a warning once per name.

        Returns when the publisher has taken responsibility for it; with the connection's
        ``confirm_publish`` option, when the broker has confirmed it.

        Raises:
            ValueError: a name or property that AMQP can't carry; nothing was sent.
            ConnectionLost: there is no session right now; nothing was accepted.
            ConnectionBlocked, DeadlineExceeded: the window stayed full until the deadline.
            PublishReturned, PublishRefused, PublishUnknown, NotFound, PreconditionFailed: with ``confirm_publish``;
                without, NotFound, PreconditionFailed, ... and PublishUnknown may be about an earlier publish on
                this channel; their text says so, and this message was not sent.
        """
        if immediate:
            raise ValueError(
                "RabbitMQ has no immediate publishing since 3.0; use expiration=0 and a dead-letter exchange"
            )
        body, properties = message
        if self._refusals.waiting:
            self._refusals.heed()
        handle = self.handle
        if handle.epoch is None:
            handle = self._present
            if handle.epoch is None:
                self._check_reopening()
        names = handle.names
        follows = bool(names.by_known) and names.concern(exchange, routing_key, properties)
        if follows:
            routing_key, properties = names.present(exchange, routing_key, properties)
        mandatory = bool(mandatory)
        try:
            prepared = self._prepare(
                body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory
            )
        except UnknownProperty:
            properties = without_unknown(properties)
            prepared = self._prepare(
                body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory
            )
        entry = Entry(prepared, len(body) + FRAME_OVERHEAD, exchange, routing_key, mandatory)
        if follows:
            entry.follow = names.following(self._prepare, body, properties)
        if self._host.confirm_publish or handle.portal.drained:
            handle.send(entry, confirm_timeout or timeout or self._host.call_timeout)
        else:
            handle.publish(entry, timeout or self._host.call_timeout)
        return ACCEPTED

    def confirm_select(self, nowait: bool = False) -> None:
        """Nothing to do: the broker confirms publishes from the first one on, see ``docs/reliability.md``."""

    def return_arguments(self, returned: Returned) -> tuple[Exception, str, str, Message]:
        """What ``on_return`` callbacks get: the exception, exchange, routing key and the message, not to be acked."""
        error = error_for_code(returned.code, returned.text, (50, 60), default=ChannelError)
        message = Message.from_delivery(returned_delivery(returned), self, no_ack=True, text_body=self._text_body)
        return error, returned.exchange, returned.routing_key, message

    def make_message(
        self, delivery: Delivery, tag_offset: int, *, no_ack: bool = False, message_count: int | None = None
    ) -> Message:
        """The message for one delivery, with the tag that is unique over all epochs."""
        message = Message.from_delivery(
            delivery, self, no_ack=no_ack, message_count=message_count, text_body=self._text_body
        )
        if tag_offset:
            message.delivery_tag = delivery.delivery_tag + tag_offset
        if self._held is not None and not no_ack:
            self._held.tags.add(delivery.delivery_tag + tag_offset)
        return message

    # Consuming

    @property
    def has_qos(self) -> bool:
        """Whether ``basic_qos`` has been called."""
        return self.handle.has_qos

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        """Bound how many messages may be unsettled; kept over reconnects."""
        qos = QoS(prefetch_count=prefetch_count, prefetch_size=prefetch_size, apply_global=a_global)
        if not qos.plain:
            self._call(self._present.set_qos, qos)
            return
        self._refusals.heed()
        if not self._host.keeps(self):
            self._check_reopening()
        self._present.set_prefetch(prefetch_count)

    def basic_consume(
        self,
        queue: str = "",
        consumer_tag: str = "",
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Callable[[Message], object] | None = None,
        arguments: Mapping[str, object] | None = None,
        on_cancel: Callable[[str], object] | None = None,
    ) -> str:
        """Subscribe to a queue; ``callback(message)`` runs in the thread that drains events.

        The subscription is restored after every fault.  ``on_cancel(tag)`` is called when the
        broker ended it (its queue was deleted), while supervision is already restoring it.
        """
        tag = consumer_tag or uuid()
        spec = ConsumerSpec(
            tag=tag, queue=queue, no_ack=no_ack, exclusive=exclusive, no_local=no_local, arguments=arguments or {}
        )
        self.subscribe([(spec, callback, on_cancel)])
        return tag

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """``basic_consume`` for several, one after the other: what was granted before a refusal, or an interrupt, is
        consumed from, what comes after it isn't."""
        handle = self._present
        for spec, *_ in subscriptions:
            if handle.consumes(spec.tag):  # checked before its callback is replaced
                raise ValueError(
                    f"consumer tag {spec.tag!r} is already in use on channel {self.channel_id}; cancel it first"
                )
        consumers: list[DesiredConsumer] = []
        granted: set[DesiredConsumer] = set()
        try:
            for spec, callback, on_cancel in subscriptions:
                cancelled = ChannelNotice(self.channel_id, "cancelled", spec.tag) if on_cancel is not None else None
                consumers.append(handle.subscription(spec, cancelled))
                if callback is not None:
                    self.callbacks[spec.tag] = callback
                if cancelled is not None and on_cancel is not None:
                    self.hearers[cancelled] = on_cancel
                if spec.no_ack:
                    self.no_ack_consumers.add(spec.tag)
            self._call(handle.subscribe, consumers, granted)
        except BaseException:
            for consumer in consumers:
                if consumer in granted:
                    continue
                if handle.wishes_for(consumer):  # interrupted when it had been added
                    self.cancel_soon(consumer.spec.tag)
                self._forget_consumer(consumer.spec.tag)
            raise

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        """End a subscription: what its callback has had stays to be acknowledged, what came too late goes back.

        On a channel that was closed, and after its connection was released, there is none any more: nothing is done.
        """
        if self.closed:
            return
        try:
            self._forget_consumer(consumer_tag)
            self._perform(partial(self._present.unsubscribe, consumer_tag))
        except CannotWait:
            self.cancel_soon(consumer_tag)
            return
        except BaseException:
            self.cancel_soon(consumer_tag)
            raise

        for feed, delivery in self.handle.withdraw(consumer_tag):
            feed.give_back(self, delivery)

    def cancel_soon(self, consumer_tag: str) -> None:
        """``basic_cancel`` for somebody who was interrupted: waits for nothing."""
        self._forget_consumer(consumer_tag)
        if not self._inherited:
            self._host.later(self.handle.unsubscribe, consumer_tag)

    def _forget_consumer(self, tag: str) -> None:
        self.callbacks.pop(tag, None)
        self.hearers.pop(ChannelNotice(self.channel_id, "cancelled", tag), None)
        self.no_ack_consumers.discard(tag)

    def give_back(self, arrival: Arrival) -> None:
        """Requeue a delivery that no callback has had; a former epoch's comes again by itself."""
        self.handle.give_back(arrival)

    def basic_get(self, queue: str = "", no_ack: bool = False) -> Message | None:
        """Take one message, or None when the queue is empty."""
        got: list[tuple[Arrival, int]] = []
        try:
            self._call(self._present.get, queue, no_ack, got)
            if not got:
                return None
            arrival, left = got[0]
            return self.make_message(arrival.delivery, arrival.tag_offset, no_ack=no_ack, message_count=left)
        except BaseException:
            if got and not no_ack:  # interrupted when it had come: others may have it
                self.give_back(got[0][0])
            raise

    def basic_recover(self, requeue: bool = False) -> None:
        """Have the broker deliver all unsettled messages of this channel again."""
        self._call(self._present.recover, requeue)

    def flow(self, active: bool) -> None:
        """Ask the broker to pause or resume deliveries (RabbitMQ refuses to pause)."""
        self._call(self._present.flow, active)

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery.

        Raises:
            StaleDelivery: it came in a former epoch; nothing was sent, the broker delivers it again.
            ValueError: that is no delivery tag.
        """
        self.handle.settle(Action.ACK, delivery_tag, bool(multiple), alone=not self._inbox.waiting)
        if self._held is not None:
            self._held.settled(delivery_tag, multiple)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Reject a delivery: requeue it, or have the broker drop or dead-letter it."""
        self.handle.settle(Action.REJECT, delivery_tag, bool(requeue))
        if self._held is not None:
            self._held.settled(delivery_tag)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """RabbitMQ's reject for several deliveries."""
        self.handle.settle(Action.REQUEUE if requeue else Action.DISCARD, delivery_tag, bool(multiple))
        if self._held is not None:
            self._held.settled(delivery_tag, multiple)
