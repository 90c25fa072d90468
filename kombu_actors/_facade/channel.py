"""The facade's channel: kombu's channel calls, made on a supervised channel actor.

Unlike kombu's, it survives its connection and its own death on the wire: QoS, consumers and
publishes belong to the actor, which brings them back.  Delivery tags seen here are unique over
all epochs, so a stale one is recognised and never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from amqp.exceptions import ChannelError, error_for_code

from .._bridge.forking import start_afresh_after_fork
from .._bridge.inbox import Inbox
from .._bridge.outlet import Outlet
from .._bridge.portal import CannotWait, Portal
from .._bridge.refusals import Refusals
from .._values.model import BindingKind, BindingSpec, ConsumerSpec, Delivery, ExchangeSpec, QueueSpec, Returned
from ..actors.channel import Action, ChannelActor, Consumer, Epoch, QoS
from ..actors.topology import QueueNames
from ..errors import ConnectionClosed, ConnectionLost, StaleDelivery, UnknownProperty
from ..protocols.ledger import Entry
from ..utils.uuid import uuid
from .accepted import ACCEPTED, Accepted, returned_delivery, without_unknown
from .consumer import Consumer as MessageConsumer
from .feeds import CancelNotice, Feed, Notice, ReturnNotice
from .message import Message
from .producer import Producer

if TYPE_CHECKING:
    from ..connection import Connection

QUEUE_ARGUMENTS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "expires": ("x-expires", lambda seconds: int(seconds * 1000)),
    "message_ttl": ("x-message-ttl", lambda seconds: int(seconds * 1000)),
    "max_length": ("x-max-length", int),
    "max_length_bytes": ("x-max-length-bytes", int),
    "max_priority": ("x-max-priority", int),
}
"""kombu's queue options in seconds -> RabbitMQ's arguments in milliseconds."""

TAG_MAX = 2**64 - 1
"""AMQP's delivery tags have 64 bits."""
FRAME_OVERHEAD = 256
"""Bytes that a publish's frames, headers and bookkeeping take beside its body, roughly."""


class queue_declare_ok_t(NamedTuple):
    """What ``queue_declare`` returns."""

    queue: str
    message_count: int
    consumer_count: int


class Channel:
    """A channel of a :class:`~kombu_actors.Connection`; made by ``Connection.channel()``.

    Any method may be called from any thread.  Each ends by its deadline: ``timeout`` where there
    is one, else the connection's (30 s).
    """

    def __init__(self, connection: Connection, portal: Portal, actor: ChannelActor, inbox: Inbox) -> None:
        self.connection = connection
        self.callbacks: dict[str, Callable[[Message], object]] = {}
        self.no_ack_consumers: set[str] = set()
        self.events: dict[str, set[Callable[..., object]]] = {"basic_return": set()}
        self._prepare = connection.transport_driver.prepare
        self._text_body = connection.transport_driver.name == "amqp"
        self._closed = False
        self.attach(portal, actor, inbox)
        start_afresh_after_fork(self)

    def attach(self, portal: Portal, actor: ChannelActor, inbox: Inbox) -> None:
        """Stand for this actor from now on."""
        self._portal = portal
        self._actor = actor
        self._inbox = inbox
        self._outlet = Outlet(portal, actor)
        self._inherited = False
        notice = ReturnNotice(actor.number)
        actor.publisher.on_returned = lambda returned: inbox.put(notice, [returned])
        driver, options = self.connection.transport_driver, self.connection.transport_options
        self._refusals = Refusals(portal, driver.content_of, options.get("on_refused"))
        actor.publisher.on_refused = self._refusals.put

    def start_afresh(self) -> None:
        """In a forked child: what was delivered and consumed is the parent's; reopened at the next use."""
        self._inherited = True
        self._actor.live = None
        self.callbacks.clear()
        self.no_ack_consumers.clear()

    def __repr__(self) -> str:
        return f"<Channel {self.channel_id} of {self.connection!r}: {'open' if self.is_open else 'not open'}>"

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def channel_id(self) -> int:
        """The channel's number; stays over reconnects."""
        return self._actor.number

    @property
    def failure(self) -> BaseException | None:
        """Why supervision gave this channel up; None while it keeps it."""
        return self._actor.failure

    @property
    def is_open(self) -> bool:
        """Whether the channel is usable at this moment."""
        return not self._closed and self._actor.live is not None

    def close(self) -> None:
        """Cancel the consumers, hand out what was published, close the channel."""
        if self._closed:
            return
        try:
            self._closed = True
            self.callbacks.clear()
            self.connection.forget_channel(self)
            if self.connection.hosts(self._portal):
                self._perform(self._close_actor)
        except BaseException as error:
            # Interrupted, or too late: what was accepted still goes out, and supervision must not keep the channel.
            self.connection.forget_channel(self)
            self.connection.later(self._close_actor)
            if not isinstance(error, CannotWait):
                raise

    async def _close_actor(self) -> None:
        self._actor.collect()
        await self._actor.publisher.wait_empty()
        await self._owner.close_channel(self._actor)

    # Messages

    def prepare_message(
        self,
        body: bytes | str,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> tuple[bytes, dict[str, Any]]:
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
        message: tuple[bytes, dict[str, Any]],
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
        actor = self._actor
        if actor.live is None:
            actor = self._present
            if actor.live is None:
                self._check_reopening()
        names = actor.owner.topology.names
        if names.by_known:
            if not exchange:
                routing_key = names.current(routing_key)
            if isinstance(properties.get("reply_to"), str):
                properties = {**properties, "reply_to": names.current(properties["reply_to"])}
        mandatory = bool(mandatory)
        try:
            prepared = self._prepare(
                body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory
            )
        except UnknownProperty:
            known = without_unknown(properties)
            prepared = self._prepare(
                body, exchange=exchange, routing_key=routing_key, properties=known, mandatory=mandatory
            )
        entry = Entry(prepared, len(body) + FRAME_OVERHEAD, exchange, routing_key, mandatory)
        if self.connection.confirm_publish or self._portal.drained:
            self._outlet.send(entry, confirm_timeout or timeout or self.connection.call_timeout)
        else:
            self._outlet.publish(entry, timeout or self.connection.call_timeout)
        return ACCEPTED

    def confirm_select(self, nowait: bool = False) -> None:
        """Nothing to do: the broker confirms publishes from the first one on, see ``docs/reliability.md``."""

    def Producer(self, *args: Any, **kwargs: Any) -> Producer:
        """A new :class:`~kombu_actors.Producer` on this channel."""
        return Producer(self, *args, **kwargs)

    def Consumer(self, *args: Any, **kwargs: Any) -> MessageConsumer:
        """A new :class:`~kombu_actors.Consumer` on this channel."""
        return MessageConsumer(self, *args, **kwargs)

    def return_arguments(self, returned: Returned) -> tuple[Exception, str, str, Message]:
        """What ``on_return`` callbacks get: the exception, exchange, routing key and the message, not to be acked."""
        error = error_for_code(returned.code, returned.text, (50, 60), default=ChannelError)
        message = Message.from_delivery(returned_delivery(returned), self, no_ack=True, text_body=self._text_body)
        return error, returned.exchange, returned.routing_key, message

    def make_message(
        self, delivery: Delivery, epoch: Epoch, *, no_ack: bool = False, message_count: int | None = None
    ) -> Message:
        """The message for one delivery, with the tag that is unique over all epochs."""
        message = Message.from_delivery(
            delivery, self, no_ack=no_ack, message_count=message_count, text_body=self._text_body
        )
        if epoch.tag_offset:
            message.delivery_tag = delivery.delivery_tag + epoch.tag_offset
        return message

    # Topology

    def exchange_declare(
        self,
        exchange: str,
        type: str = "direct",
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
        internal: bool = False,
    ) -> None:
        """Declare an exchange and remember it: it is declared again in every new session.

        ``nowait`` is accepted and waits all the same: an answer nobody reads is an error nobody sees.
        """
        spec = ExchangeSpec(
            name=exchange, type=type, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
        )
        self._call(self._owner.declare_exchange, spec, passive=passive)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete an exchange and forget it."""
        self._call_after_publishes(self._owner.delete_exchange, exchange, if_unused=if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind an exchange to another one."""
        binding = _binding(BindingKind.EXCHANGE, destination, source, routing_key, arguments)
        self._call_after_publishes(self._owner.bind, binding)

    def exchange_unbind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Undo ``exchange_bind``."""
        self._call_after_publishes(
            self._owner.unbind, _binding(BindingKind.EXCHANGE, destination, source, routing_key, arguments)
        )

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> queue_declare_ok_t:
        """Declare a queue and remember it; without a name the broker chooses one, anew in each session."""
        spec = QueueSpec(name=queue, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments)
        info = self._call_after_publishes(self._owner.declare_queue, spec, passive=passive)
        return queue_declare_ok_t(info.name, info.messages, info.consumers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Bind a queue to an exchange."""
        binding = _binding(BindingKind.QUEUE, queue, exchange, routing_key, arguments)
        self._call_after_publishes(self._owner.bind, binding)

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Undo ``queue_bind``."""
        self._call_after_publishes(
            self._owner.unbind, _binding(BindingKind.QUEUE, queue, exchange, routing_key, arguments)
        )

    def queue_delete(
        self, queue: str = "", if_unused: bool = False, if_empty: bool = False, nowait: bool = False
    ) -> int:
        """Delete a queue and forget it; returns how many messages went with it."""
        count: int = self._call_after_publishes(self._owner.delete_queue, queue, if_unused=if_unused, if_empty=if_empty)
        return count

    def queue_purge(self, queue: str = "", nowait: bool = False) -> int:
        """Remove the ready messages of a queue; returns how many there were."""
        count: int = self._call_after_publishes(self._owner.purge_queue, queue)
        return count

    @staticmethod
    def prepare_queue_arguments(arguments: Mapping[str, Any] | None, **options: Any) -> dict[str, Any]:
        """Translate kombu's queue options to the broker's arguments."""
        prepared = dict(arguments or {})
        for option, value in options.items():
            if value is not None:
                name, convert = QUEUE_ARGUMENTS[option]
                prepared[name] = convert(value)
        return prepared

    @property
    def queue_names(self) -> QueueNames:
        """The names of this connection's queues that the broker names, in this session and before."""
        names: QueueNames = self._actor.owner.topology.names
        return names

    def on_queue_renamed(self, queue: str, fn: Callable[[str, int, int], object]) -> None:
        """Have ``fn(name, 0, 0)`` called where events are drained, whenever the broker gives a queue another name."""
        inbox, notice = self._inbox, Notice(fn)
        self.queue_names.watch(queue, lambda name: inbox.put(notice, [(name, 0, 0)]))

    # Consuming

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        """Bound how many messages may be unsettled; kept over reconnects."""
        qos = QoS(prefetch_count=prefetch_count, prefetch_size=prefetch_size, apply_global=a_global)
        self._call(self._present.set_qos, qos)

    def basic_consume(
        self,
        queue: str = "",
        consumer_tag: str = "",
        no_local: bool = False,
        no_ack: bool = False,
        exclusive: bool = False,
        nowait: bool = False,
        callback: Callable[[Message], object] | None = None,
        arguments: Mapping[str, Any] | None = None,
        on_cancel: Callable[[str], object] | None = None,
    ) -> str:
        """Subscribe to a queue; ``callback(message)`` runs in the thread that drains events.

        The subscription is restored after every fault.  ``on_cancel(tag)`` is called when the
        broker ended it (its queue was deleted), while supervision is already restoring it.
        """
        tag = consumer_tag or uuid()
        number, inbox = self.channel_id, self._inbox
        feed: Feed | None = None

        def sink(epoch: Epoch, batch: list[Delivery]) -> None:
            nonlocal feed
            if feed is None or feed.epoch is not epoch:
                feed = Feed(number, tag, no_ack, epoch)
            inbox.put_deliveries(feed, batch)

        def cancelled() -> None:
            if on_cancel is not None:
                inbox.put(CancelNotice(on_cancel), [tag])

        spec = ConsumerSpec(
            tag=tag, queue=queue, no_ack=no_ack, exclusive=exclusive, no_local=no_local, arguments=arguments
        )
        if tag in self._actor.consumers:  # checked before its callback is replaced
            raise ValueError(f"consumer tag {tag!r} is already in use on channel {self.channel_id}; cancel it first")
        consumer = Consumer(spec, sink, cancelled)
        try:
            if callback is not None:
                self.callbacks[tag] = callback
            if no_ack:
                self.no_ack_consumers.add(tag)
            self._call(self._owner.add_consumer, self._actor, consumer)
        except BaseException:
            if self._actor.consumers.get(tag) is consumer:  # interrupted when it had been added
                self.cancel_soon(tag)
            self.callbacks.pop(tag, None)
            self.no_ack_consumers.discard(tag)
            raise
        return tag

    def basic_cancel(self, consumer_tag: str, nowait: bool = False) -> None:
        """End a subscription: what its callback has had stays to be acknowledged, what came too late goes back."""
        try:
            self.callbacks.pop(consumer_tag, None)
            self.no_ack_consumers.discard(consumer_tag)
            self._perform(self._owner.remove_consumer, self._actor, consumer_tag)
        except CannotWait:
            self.cancel_soon(consumer_tag)
            return
        except BaseException:
            self.cancel_soon(consumer_tag)
            raise

        def was_for_it(key: object) -> bool:
            return isinstance(key, Feed) and (key.channel, key.tag) == (self.channel_id, consumer_tag)

        for feed, delivery in self._inbox.withdraw(was_for_it):
            feed.give_back(self, delivery)

    def cancel_soon(self, consumer_tag: str) -> None:
        """``basic_cancel`` for somebody who was interrupted: waits for nothing."""
        self.callbacks.pop(consumer_tag, None)
        self.no_ack_consumers.discard(consumer_tag)
        if not self._inherited:
            self.connection.later(self._actor.owner.remove_consumer, self._actor, consumer_tag)

    def give_back(self, epoch: Epoch, delivery: Delivery) -> None:
        """Requeue a delivery that no callback has had; a former epoch's comes again by itself."""
        if epoch is self._actor.live:
            self._outlet.settle((epoch, Action.REQUEUE, delivery.delivery_tag, False), alone=False)

    def basic_get(self, queue: str = "", no_ack: bool = False) -> Message | None:
        """Take one message, or None when the queue is empty."""
        topology = self._owner.topology

        got: list[tuple[Epoch, Delivery, int]] = []

        async def get(epoch: Epoch) -> None:
            answer = await epoch.wire.get(topology.names.current(queue), no_ack=no_ack)
            if answer is not None:
                self._actor.saw_tag(answer[0].delivery_tag + epoch.tag_offset)
                got.append((epoch, *answer))

        actor = self._present
        owner = actor.owner
        try:
            self._call(owner.after_publishes, partial(owner.on_wire, actor, get), actor)
            if not got:
                return None
            epoch, delivery, left = got[0]
            return self.make_message(delivery, epoch, no_ack=no_ack, message_count=left)
        except BaseException:
            if got and not no_ack:  # interrupted when it had come: others may have it
                self.give_back(got[0][0], got[0][1])
            raise

    def basic_recover(self, requeue: bool = False) -> None:
        """Have the broker deliver all unsettled messages of this channel again."""
        self._call(self._owner.on_wire, self._actor, lambda epoch: epoch.wire.recover(requeue=requeue))

    def flow(self, active: bool) -> None:
        """Ask the broker to pause or resume deliveries (RabbitMQ refuses to pause)."""
        self._call(self._owner.on_wire, self._actor, lambda epoch: epoch.wire.flow(active))

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Acknowledge a delivery.

        Raises:
            StaleDelivery: it came in a former epoch; nothing was sent, the broker delivers it again.
            ValueError: that is no delivery tag.
        """
        epoch = self._epoch_of(delivery_tag)
        settlement = (epoch, Action.ACK, delivery_tag - epoch.tag_offset, bool(multiple))
        self._outlet.settle(settlement, alone=not self._inbox.waiting)

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Reject a delivery: requeue it, or have the broker drop or dead-letter it."""
        epoch = self._epoch_of(delivery_tag)
        self._outlet.settle((epoch, Action.REJECT, delivery_tag - epoch.tag_offset, bool(requeue)), alone=False)

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """RabbitMQ's reject for several deliveries."""
        epoch = self._epoch_of(delivery_tag)
        action = Action.REQUEUE if requeue else Action.DISCARD
        self._outlet.settle((epoch, action, delivery_tag - epoch.tag_offset, bool(multiple)), alone=False)

    def _epoch_of(self, tag: Any) -> Epoch:
        if not isinstance(tag, int) or not 0 <= tag <= TAG_MAX:
            raise ValueError(f"a delivery tag is a number from 0 to {TAG_MAX}, not {tag!r:.80}")
        epoch = self._actor.live
        if epoch is None or (0 < tag <= epoch.tag_offset):
            raise StaleDelivery(
                f"delivery {tag} came over channel {self.channel_id} before it was lost; "
                "nothing was sent, the broker delivers the message again"
            )
        return epoch

    # The bridge

    @property
    def _present(self) -> ChannelActor:
        """The actor of this process; in a forked child, and in a process that is exiting, made at first use."""
        if (self._inherited or self._portal.drained) and not self._closed:
            self.connection.reopen(self, self._actor)
        return self._actor

    @property
    def _owner(self) -> Any:
        return self._present.owner

    def wait_open(self, timeout: float) -> None:
        """Wait until the channel is usable again after a fault."""

        async def ready(epoch: Epoch) -> None:
            return None

        self._perform(self._owner.on_wire, self._actor, ready, timeout=timeout)

    def _call_after_publishes(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``_call`` for what must find the messages published before it, on whichever channel."""
        return self._call(self._owner.after_publishes, partial(fn, *args, **kwargs))

    def _call(self, fn: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        self._refusals.heed()
        return self._perform(fn, *args, timeout=timeout, **kwargs)

    def _perform(self, fn: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """``_call`` for what must be done whatever became of earlier publishes."""
        if fn != self._close_actor and not self.connection.keeps(self):
            self._check_reopening()
        return self.connection.call(fn, *args, timeout=timeout, **kwargs)

    def _check_reopening(self) -> None:
        """Raise why the channel is not open, unless it is being opened again in a session that is up."""
        if self._closed:
            raise ConnectionClosed(f"channel {self.channel_id} was closed; open another with connection.channel()")
        failure = self._actor.owner.failure or self._actor.failure
        if failure is not None:
            raise failure
        if not self.connection.keeps(self):
            raise ConnectionClosed(f"the connection of channel {self.channel_id} was released; open another channel")
        link = self._owner.session.link
        if link is None or link.closed is not None:
            raise ConnectionLost(
                f"{self.connection.as_uri()} is not connected at the moment (supervision is reconnecting); "
                "nothing was sent. Publish with retry=True to wait for it"
            )
        self._actor.check_obstacle()


def _binding(
    kind: BindingKind, destination: str, source: str, routing_key: str | None, arguments: Mapping[str, Any] | None
) -> BindingSpec:
    return BindingSpec(
        kind=kind, source=source, destination=destination, routing_key=routing_key or "", arguments=arguments or {}
    )
