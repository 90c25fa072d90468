"""The facade's channel: kombu's channel calls, made on a supervised channel actor.

Unlike kombu's, it survives its connection and its own death on the wire: QoS, consumers and
publishes belong to the actor, which brings them back.  Delivery tags seen here are unique over
all epochs, so a stale one is recognised and never sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from amqp.exceptions import ChannelError, error_for_code

from .._bridge.channel import ChannelHandle, Declarations
from .._bridge.feeds import Arrival, Notice
from .._bridge.forking import start_afresh_after_fork
from .._bridge.portal import CannotWait
from .._bridge.refusals import Refusals
from .._values.model import (
    Action,
    BindingKind,
    BindingSpec,
    ConsumerSpec,
    Delivery,
    ExchangeSpec,
    QoS,
    QueueSpec,
    Returned,
)
from ..errors import ConnectionClosed, UnknownProperty
from ..protocols.ledger import Entry
from ..utils.uuid import uuid
from .accepted import ACCEPTED, Accepted, returned_delivery, without_unknown
from .consumer import Consumer as MessageConsumer
from .message import Message
from .producer import Producer

if TYPE_CHECKING:
    from .._bridge.inbox import Inbox, Taken
    from ..connection import Connection
    from .contracts import ChannelHost

T = TypeVar("T")

QUEUE_ARGUMENTS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "expires": ("x-expires", lambda seconds: int(seconds * 1000)),
    "message_ttl": ("x-message-ttl", lambda seconds: int(seconds * 1000)),
    "max_length": ("x-max-length", int),
    "max_length_bytes": ("x-max-length-bytes", int),
    "max_priority": ("x-max-priority", int),
}
"""kombu's queue options in seconds -> RabbitMQ's arguments in milliseconds."""

Prepared = tuple[bytes, dict[str, Any]]
"""Body and properties, as ``prepare_message`` makes them and ``basic_publish`` takes them."""
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

    connection: Connection

    def __init__(self, host: ChannelHost, handle: ChannelHandle, inbox: Inbox) -> None:
        self.connection = cast("Connection", host)
        self.callbacks: dict[str, Callable[[Message], object]] = {}
        self.no_ack_consumers: set[str] = set()
        self.events: dict[str, set[Callable[..., object]]] = {"basic_return": set()}
        self._host = host
        self._prepare = host.transport_driver.prepare
        self._text_body = host.transport_driver.name == "amqp"
        self._closed = False
        self.attach(handle, inbox)
        start_afresh_after_fork(self)

    def attach(self, handle: ChannelHandle, inbox: Inbox) -> None:
        """Stand for this channel of the runtime from now on."""
        self.handle = handle
        """The channel in the runtime; it outlives its connection and its own death on the wire."""
        self._inbox = inbox
        self._inherited = False
        driver, options = self._host.transport_driver, self._host.transport_options
        self._refusals = Refusals(handle.portal, driver.content_of, options.get("on_refused"))
        handle.report(_Returns(handle.number), self._refusals)

    def start_afresh(self) -> None:
        """In a forked child: what was delivered and consumed is the parent's; reopened at the next use."""
        self._inherited = True
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
        return self.handle.number

    @property
    def failure(self) -> BaseException | None:
        """Why supervision gave this channel up; None while it keeps it."""
        return self.handle.failure

    @property
    def is_open(self) -> bool:
        """Whether the channel is usable at this moment."""
        return not self._closed and self.handle.epoch is not None

    def close(self) -> None:
        """Cancel the consumers, hand out what was published, close the channel."""
        if self._closed:
            return
        try:
            self._closed = True
            self.callbacks.clear()
            self._host.forget_channel(self)
            if self._host.hosts(self.handle.portal):
                self._host.call(self.handle.close)
        except BaseException as error:
            # Interrupted, or too late: what was accepted still goes out, and supervision must not keep the channel.
            self._host.forget_channel(self)
            self._host.later(self.handle.close)
            if not isinstance(error, CannotWait):
                raise

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
        if self._host.confirm_publish or handle.portal.drained:
            handle.send(entry, confirm_timeout or timeout or self._host.call_timeout)
        else:
            handle.publish(entry, timeout or self._host.call_timeout)
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
        self, delivery: Delivery, tag_offset: int, *, no_ack: bool = False, message_count: int | None = None
    ) -> Message:
        """The message for one delivery, with the tag that is unique over all epochs."""
        message = Message.from_delivery(
            delivery, self, no_ack=no_ack, message_count=message_count, text_body=self._text_body
        )
        if tag_offset:
            message.delivery_tag = delivery.delivery_tag + tag_offset
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
        arguments: Mapping[str, object] | None = None,
        internal: bool = False,
    ) -> None:
        """Declare an exchange and remember it: it is declared again in every new session.

        ``nowait`` is accepted and waits all the same: an answer nobody reads is an error nobody sees.
        """
        spec = ExchangeSpec(
            name=exchange, type=type, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments
        )
        self._call(self._declarations.declare_exchange, spec, passive=passive)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete an exchange and forget it."""
        self._call_after_publishes(self._declarations.delete_exchange, exchange, if_unused=if_unused)

    def exchange_bind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Bind an exchange to another one."""
        binding = _binding(BindingKind.EXCHANGE, destination, source, routing_key, arguments)
        self._call_after_publishes(self._declarations.bind, binding)

    def exchange_unbind(
        self,
        destination: str,
        source: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Undo ``exchange_bind``."""
        self._call_after_publishes(
            self._declarations.unbind, _binding(BindingKind.EXCHANGE, destination, source, routing_key, arguments)
        )

    def queue_declare(
        self,
        queue: str = "",
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = True,
        nowait: bool = False,
        arguments: Mapping[str, object] | None = None,
    ) -> queue_declare_ok_t:
        """Declare a queue and remember it; without a name the broker chooses one, anew in each session."""
        spec = QueueSpec(name=queue, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments)
        info = self._call_after_publishes(self._declarations.declare_queue, spec, passive=passive)
        return queue_declare_ok_t(info.name, info.messages, info.consumers)

    def queue_bind(
        self,
        queue: str,
        exchange: str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Bind a queue to an exchange."""
        binding = _binding(BindingKind.QUEUE, queue, exchange, routing_key, arguments)
        self._call_after_publishes(self._declarations.bind, binding)

    def queue_unbind(
        self,
        queue: str,
        exchange: str,
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Undo ``queue_bind``."""
        self._call_after_publishes(
            self._declarations.unbind, _binding(BindingKind.QUEUE, queue, exchange, routing_key, arguments)
        )

    def queue_delete(
        self, queue: str = "", if_unused: bool = False, if_empty: bool = False, nowait: bool = False
    ) -> int:
        """Delete a queue and forget it; returns how many messages went with it."""
        return self._call_after_publishes(
            self._declarations.delete_queue, queue, if_unused=if_unused, if_empty=if_empty
        )

    def queue_purge(self, queue: str = "", nowait: bool = False) -> int:
        """Remove the ready messages of a queue; returns how many there were."""
        return self._call_after_publishes(self._declarations.purge_queue, queue)

    @staticmethod
    def prepare_queue_arguments(arguments: Mapping[str, object] | None, **options: object) -> dict[str, Any]:
        """Translate kombu's queue options to the broker's arguments."""
        prepared = dict(arguments or {})
        for option, value in options.items():
            if value is not None:
                name, convert = QUEUE_ARGUMENTS[option]
                prepared[name] = convert(value)
        return prepared

    def current_name(self, queue: str) -> str:
        """The name that a queue has now, which the broker may have named anew."""
        return self.handle.names.current(queue)

    def known_name(self, queue: str) -> str:
        """The first name of a queue that the broker has named anew."""
        return self.handle.names.known(queue)

    def on_queue_renamed(self, queue: str, fn: Callable[[str, int, int], object]) -> None:
        """Have ``fn(name, 0, 0)`` called where events are drained, whenever the broker gives a queue another name."""
        self.handle.report_names(queue, Notice(fn))

    # Consuming

    @property
    def has_qos(self) -> bool:
        """Whether ``basic_qos`` has been called."""
        return self.handle.has_qos

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
        arguments: Mapping[str, object] | None = None,
        on_cancel: Callable[[str], object] | None = None,
    ) -> str:
        """Subscribe to a queue; ``callback(message)`` runs in the thread that drains events.

        The subscription is restored after every fault.  ``on_cancel(tag)`` is called when the
        broker ended it (its queue was deleted), while supervision is already restoring it.
        """
        handle = self._present
        tag = consumer_tag or uuid()
        spec = ConsumerSpec(
            tag=tag, queue=queue, no_ack=no_ack, exclusive=exclusive, no_local=no_local, arguments=arguments
        )
        if handle.consumes(tag):  # checked before its callback is replaced
            raise ValueError(f"consumer tag {tag!r} is already in use on channel {self.channel_id}; cancel it first")
        consumer = handle.subscription(spec, Notice(on_cancel) if on_cancel is not None else None)
        try:
            if callback is not None:
                self.callbacks[tag] = callback
            if no_ack:
                self.no_ack_consumers.add(tag)
            self._call(handle.subscribe, consumer)
        except BaseException:
            if handle.wishes_for(consumer):  # interrupted when it had been added
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
        self.callbacks.pop(consumer_tag, None)
        self.no_ack_consumers.discard(consumer_tag)
        if not self._inherited:
            self._host.later(self.handle.unsubscribe, consumer_tag)

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

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:
        """Reject a delivery: requeue it, or have the broker drop or dead-letter it."""
        self.handle.settle(Action.REJECT, delivery_tag, bool(requeue))

    def basic_nack(self, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """RabbitMQ's reject for several deliveries."""
        self.handle.settle(Action.REQUEUE if requeue else Action.DISCARD, delivery_tag, bool(multiple))

    # The bridge

    @property
    def _present(self) -> ChannelHandle:
        """The handle of this process; in a forked child, and in a process that is exiting, made at first use."""
        if (self._inherited or self.handle.portal.drained) and not self._closed:
            self._host.reopen(self)
        return self.handle

    @property
    def _declarations(self) -> Declarations:
        return self._present.declarations

    def wait_open(self, timeout: float) -> None:
        """Wait until the channel is usable again after a fault."""
        self._perform(self._present.wait_open, timeout)

    def _call_after_publishes(self, fn: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        """``_call`` for what must find the messages published before it, on whichever channel."""
        answer: T = self._call(self._present.after_publishes, partial(fn, *args, **kwargs))
        return answer

    def _call(self, fn: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        self._refusals.heed()
        return self._perform(partial(fn, *args, **kwargs))

    def _perform(self, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """``_call`` for what must be done whatever became of earlier publishes."""
        if not self._host.keeps(self):
            self._check_reopening()
        return self._host.call(call, timeout=timeout)

    def _check_reopening(self) -> None:
        """Raise why the channel is not open, unless it is being opened again in a session that is up."""
        if self._closed:
            raise ConnectionClosed(f"channel {self.channel_id} was closed; open another with connection.channel()")
        if self.failure is not None:
            raise self.failure
        if not self._host.keeps(self):
            raise ConnectionClosed(f"the connection of channel {self.channel_id} was released; open another channel")
        self.handle.check_reopening(self._host.as_uri())


class _Returns:
    """Mandatory messages that came back over one channel, in the inbox."""

    __slots__ = ("channel",)

    def __init__(self, channel: int) -> None:
        self.channel = channel

    def dispatch(self, channels: Mapping[int, Channel], taken: Taken) -> bool:
        """Call the channel's callbacks."""
        channel = channels.get(self.channel)
        if channel is None:
            return False
        callbacks = list(channel.events["basic_return"])
        arguments = channel.return_arguments(taken[0][1])
        del taken[:]
        for callback in callbacks:
            callback(*arguments)
        return True


def _binding(
    kind: BindingKind, destination: str, source: str, routing_key: str | None, arguments: Mapping[str, object] | None
) -> BindingSpec:
    return BindingSpec(
        kind=kind, source=source, destination=destination, routing_key=routing_key or "", arguments=arguments or {}
    )
