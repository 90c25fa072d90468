"""One channel: its consumers, its unacknowledged deliveries, its confirms.

Requests raise the refusal after the channel (or, for some, the whole session) was closed over it;
publishes and acknowledgements have no reply, so their refusal is only an effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import attrs
from amqp.exceptions import AMQPError, ChannelError

from ..._values.model import ConsumerSpec, Delivery, Returned
from ._arguments import UNLIMITED
from ._consumer import Consumer
from ._declaring import DeclaringChannel
from ._effects import ChannelClosed, Confirmed, ConsumerCancelled, MessageReturned
from ._errors import access_refused, invalid_argument, named_method, not_allowed, not_implemented, wire_type
from ._message import Entry, Message
from ._request import request
from ._unacked import Unacked

if TYPE_CHECKING:
    pass

NO_ROUTE: Final = 312


@attrs.define(eq=False)
class Confirms:
    """The publisher's side of a channel in confirm mode."""

    last_tag: int = 0
    run: Confirmed | None = None
    """The effect that the next confirm may still join."""


@attrs.define(eq=False)
class Channel(DeclaringChannel):
    """Owns what dies with a channel."""

    unacked: Unacked = attrs.field(factory=Unacked)
    consumers: dict[str, Consumer] = attrs.field(factory=dict)
    confirms: Confirms | None = None
    prefetch: int = UNLIMITED
    """For consumers started from now on (``basic.qos`` with global=false)."""
    limit: int = UNLIMITED
    """For all consumers of the channel together (global=true)."""
    held: int = 0
    """Unacknowledged deliveries that count against ``limit``; polled ones don't."""

    # requests

    @request(60, 10)
    def qos(self, *, prefetch_count: int = 0, prefetch_size: int = 0, apply_global: bool = False) -> None:
        """Limit unacknowledged deliveries: per consumer started later, or (global) for the channel now."""
        if prefetch_size:
            raise not_implemented(f"prefetch_size!=0 ({prefetch_size})")
        if apply_global:
            self.limit = prefetch_count or UNLIMITED
            self.resume_consumers()
        else:
            self.prefetch = prefetch_count or UNLIMITED

    @request(60, 20)
    def consume(self, spec: ConsumerSpec, receiver: object, *, fresh_tag: str = "") -> Consumer:
        """Subscribe; deliveries come as effects.  ``fresh_tag`` is used when the tag is empty."""
        queue = self._queue(spec.queue)
        tag = spec.tag or fresh_tag
        if tag in self.consumers:
            raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
        what = self.session.broker.topology.queue_named(queue.spec.name)
        priority = spec.arguments.get("x-priority", 0)
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise invalid_argument("x-priority", what, f'"expected integer, got {wire_type(priority)}"')
        taken = any(consumer.exclusive for consumer in queue.rotation)
        if taken or (spec.exclusive and (len(queue.rotation) or queue.policy.single_active)):
            raise access_refused(f"{what} in exclusive use")
        consumer = Consumer(tag, self, queue, receiver, spec.no_ack, spec.exclusive, priority, self.prefetch)
        self.consumers[tag] = consumer
        queue.rotation.add(consumer)
        queue.dispatch()
        return consumer

    @request(60, 30)
    def cancel(self, tag: str) -> None:
        """End a subscription; what it has unacknowledged stays so."""
        self.withdraw(tag)

    @request(60, 70)
    def get(self, name: str, *, no_ack: bool = False) -> tuple[Delivery, int] | None:
        """Poll one message; with it, how many are left.  None when the queue is empty."""
        queue = self._queue(name)
        entry = queue.poll()
        if entry is None:
            return None
        tag = self.unacked.last_tag = self.unacked.last_tag + 1
        if no_ack:
            queue.settle(entry)
        else:
            self.unacked.entries[tag] = entry
        message = entry.message
        delivery = Delivery(
            "", tag, entry.redelivered, message.exchange, message.routing_key, message.properties, message.body
        )
        return delivery, queue.ready.count

    @request(60, 110)
    def recover(self, *, requeue: bool = False) -> None:
        """Give back everything unacknowledged; as RabbitMQ, only with ``requeue``."""
        if not requeue:
            raise not_implemented("requeue=false")
        self._give_back(self.unacked.take_all())

    @request(20, 20)
    def flow(self, active: bool) -> None:
        """Let deliveries flow; as RabbitMQ, they can't be stopped."""
        if not active:
            raise not_implemented("active=false")

    # without a reply

    def confirm_select(self) -> None:
        """Confirm publishes from now on, tags counting from 1; a second time changes nothing."""
        if self.closed is None and self.confirms is None:
            self.confirms = Confirms()

    def publish(self, message: Message) -> None:
        """Route a message to its queues; confirm it when the channel confirms."""
        if self.closed is not None:
            return
        broker = self.session.broker
        try:
            queues = broker.destinations(message, self.session)
        except AMQPError as error:
            self.fail(named_method(error, 60, 40))
            return
        if not queues and message.mandatory:
            self._return(message)
        accepted = True
        for queue in queues:
            if not queue.offer(message):
                accepted = False
        if self.confirms is not None:
            self._confirm(self.confirms, accepted)
        broker.settle()
        if broker.alarms:
            self.session.block(broker.alarm_reason)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Settle a delivery, or with ``multiple`` all up to it; an unknown tag closes the channel."""
        if multiple:
            self._acknowledge(80, tag, multiple, _settle)
            return
        if self.closed is not None:
            return
        entry = self.unacked.entries.pop(tag, None)
        if entry is None:
            self._acknowledge(80, tag, multiple, _settle)
            return
        queue = entry.queue
        queue.settle(entry)
        consumer = entry.consumer
        if consumer is not None:
            self.held -= 1
            consumer.unacked -= 1
            if self.limit < UNLIMITED:
                self.resume_consumers()
            elif consumer.parked:
                consumer.resume()
        self.session.broker.settle()

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        """Give a delivery back to its queue, or drop or dead-letter it; with ``multiple`` all up to it."""
        self._acknowledge(120, tag, multiple, None if requeue else _reject)

    def reject(self, tag: int, *, requeue: bool = False) -> None:
        """``nack`` for one delivery, as AMQP itself has it."""
        self._acknowledge(90, tag, False, None if requeue else _reject)

    def withdraw(self, tag: str) -> None:
        """End a subscription if there is one, as ``cancel`` does, but without a reply."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            queue = consumer.queue
            queue.rotation.remove(consumer)
            queue.dispatch()
            self.session.broker.topology.consumer_left(queue)
            self.session.broker.settle()

    # ends

    def fail(self, error: AMQPError) -> None:
        """Close over an error: this channel, or the connection where AMQP says so."""
        if not isinstance(error, ChannelError):
            self.session.fail(error)
        elif self.closed is None:
            self.close(error)
            self.session.emit(ChannelClosed(self, error))

    def close(self, error: AMQPError | None = None) -> None:
        """End it: consumers go, what is unacknowledged goes back to its queues."""
        if self.closed is not None:
            return
        self.closed = error or ChannelError("channel closed", reply_code=200)
        consumers = list(self.consumers.values())
        self.consumers.clear()
        for consumer in consumers:
            consumer.queue.rotation.remove(consumer)
        self._give_back(self.unacked.take_all())
        for consumer in consumers:
            consumer.queue.dispatch()
            self.session.broker.topology.consumer_left(consumer.queue)
        self.session.channels.pop(self.number, None)
        self.session.broker.settle()

    def drop(self, consumer: Consumer) -> None:
        """Forget a consumer whose queue is gone, and say so."""
        del self.consumers[consumer.tag]
        self.session.emit(ConsumerCancelled(consumer))

    def resume_consumers(self) -> None:
        """Let consumers without room take part again, where there is room now."""
        for consumer in list(self.consumers.values()):
            consumer.resume()

    def end_confirm_run(self) -> None:
        """Have the next confirm be one of its own: something else is to be told before it."""
        if self.confirms is not None:
            self.confirms.run = None

    # details

    def _confirm(self, confirms: Confirms, accepted: bool) -> None:
        confirms.last_tag = tag = confirms.last_tag + 1
        run = confirms.run
        if run is not None and run.accepted is accepted:
            run.tag = tag
            run.multiple = True
        else:
            confirms.run = run = Confirmed(self, tag, False, accepted)
            self.session.emit(run)

    def _return(self, message: Message) -> None:
        self.end_confirm_run()
        returned = Returned(
            NO_ROUTE, "NO_ROUTE", message.exchange, message.routing_key, message.properties, message.body
        )
        self.session.emit(MessageReturned(self, returned))

    def _acknowledge(self, method_id: int, tag: int, multiple: bool, verdict: Callable[[Entry], None] | None) -> None:
        """Settle or reject what a tag speaks of; ``verdict`` None gives it back."""
        if self.closed is not None:
            return
        try:
            entries = self.unacked.take(tag, multiple=multiple)
        except AMQPError as error:
            self.fail(named_method(error, 60, method_id))
            return
        if verdict is None:
            self._give_back(entries)
        else:
            self._release(entries)
            for entry in entries:
                verdict(entry)
            self._resume(entries)
        self.session.broker.settle()

    def _give_back(self, entries: list[Entry]) -> None:
        self._release(entries)
        holders = {entry.consumer: None for entry in entries if entry.consumer is not None}
        queues = dict.fromkeys(entry.queue for entry in entries)
        for entry in entries:
            entry.queue.put_back(entry)
        for queue in queues:
            queue.restored()
        for consumer in holders:
            consumer.resume()

    def _release(self, entries: Iterable[Entry]) -> None:
        """Stop counting these deliveries against prefetch."""
        for entry in entries:
            if entry.consumer is not None:
                self.held -= 1
                entry.consumer.unacked -= 1

    def _resume(self, entries: Iterable[Entry]) -> None:
        if self.limit < UNLIMITED:
            self.resume_consumers()
        else:
            for consumer in {entry.consumer: None for entry in entries if entry.consumer is not None}:
                consumer.resume()


def _settle(entry: Entry) -> None:
    entry.queue.settle(entry)


def _reject(entry: Entry) -> None:
    entry.queue.reject(entry)
