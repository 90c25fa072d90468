"""Queues, as declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from .._values.model import freeze
from ..errors import ContentDisallowed
from ..serialization import prepare_accept_content
from .bound import Attributes, MaybeChannelBound
from .exchange import Exchange, bare, binding, name_of
from .surface import Bindable, current_name, known_name

if TYPE_CHECKING:
    from .channel import Channel
    from .channel_topology import queue_declare_ok_t
    from .message import Message


class Queue(MaybeChannelBound):
    """A queue, the exchange it is bound to, and the routing key it is bound by.

    Several bindings are given as ``bindings``, or as a list in place of ``exchange``.  ``durable``
    (default) queues survive a broker restart, ``exclusive`` ones belong to their connection (and are
    ``auto_delete``), ``auto_delete`` ones go with their last consumer.  ``expires`` (seconds unused
    until the queue goes), ``message_ttl`` (seconds), ``max_length`` (messages), ``max_length_bytes``
    and ``max_priority`` limit it; further limits go into ``queue_arguments``.  ``binding_arguments``
    and ``consumer_arguments`` go to the broker with the binding and the consumer.  ``no_ack``
    consumers of it need not acknowledge.  ``on_declared(name, messages, consumers)`` is called after
    each declaration.  ``no_declare`` never declares it.  ``alias`` is yours to use.

    A queue without name gets one from the broker when it is declared, and another one when it has to be made
    again after a fault: ``name`` follows, and ``on_declared`` is called with the new one where events are drained.
    """

    ContentDisallowed = ContentDisallowed

    _name: str = ""
    exchange: Exchange | None = Exchange("")
    routing_key: str = ""
    queue_arguments: dict[str, object] | None
    binding_arguments: dict[str, object] | None
    consumer_arguments: dict[str, object] | None
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    no_ack: bool = False
    alias: str | None
    no_declare: bool | None
    expires: float | None
    message_ttl: float | None
    max_length: int | None
    max_length_bytes: int | None
    max_priority: int | None

    attrs: Attributes = (
        ("name", None),
        ("exchange", None),
        ("routing_key", None),
        ("queue_arguments", None),
        ("binding_arguments", None),
        ("consumer_arguments", None),
        ("durable", bool),
        ("exclusive", bool),
        ("auto_delete", bool),
        ("no_ack", None),
        ("alias", None),
        ("bindings", list),
        ("no_declare", bool),
        ("expires", float),
        ("message_ttl", float),
        ("max_length", int),
        ("max_length_bytes", int),
        ("max_priority", int),
    )

    def __init__(
        self,
        name: str | None = "",
        exchange: Exchange | str | Iterable[binding] | None = None,
        routing_key: str | None = "",
        channel: Bindable | None = None,
        bindings: Iterable[binding] | None = None,
        on_declared: Callable[[str, int, int], object] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name or self.name
        self.bindings: set[binding] = set(bindings or ())
        if isinstance(exchange, str):
            self.exchange = Exchange(exchange)
        elif isinstance(exchange, Exchange):
            self.exchange = exchange
        elif exchange is not None:
            self.bindings.update(exchange)
        if self.bindings:
            self.exchange = None
        self.routing_key = routing_key or self.routing_key
        self.on_declared = on_declared
        if self.exclusive:
            self.auto_delete = True
        self.maybe_bind(channel)

    def bind(self, channel: Bindable) -> Self:
        """A copy bound to a channel, or to a connection's default channel."""
        bound = super().bind(channel)
        bound._name = self._name  # the first one, which is known for ever
        bound.on_declared = self.on_declared
        return bound

    @property
    def name(self) -> str:
        """Its name; while bound, the one that the broker knows it by now."""
        return current_name(self._channel, self._name)

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def when_bound(self) -> None:
        """Bind the exchange to the same channel; go by the queue's first name, which is known for ever."""
        self._name = known_name(self._channel, self._name)
        if self.exchange:
            self.exchange = self.exchange(self.channel)

    def declare(self, nowait: bool = False, channel: Channel | None = None) -> str:
        """Declare exchange, queue and bindings; returns the queue's name.

        Does nothing with ``no_declare``.  Raises ``PreconditionFailed`` when one of them exists with
        other settings, ``ResourceLocked`` when another connection's exclusive queue has the name.
        """
        if not self.no_declare:
            if self.exchange:
                self.exchange.declare(nowait=nowait, channel=channel)
            self.queue_declare(nowait=nowait, passive=False, channel=channel)
            if self.exchange and self.exchange.name:
                self.queue_bind(nowait=nowait, channel=channel)
            for each in self.bindings:
                each.declare(channel or self.channel)
                each.bind(self, nowait=nowait, channel=channel)
        return self.name

    def queue_declare(
        self, nowait: bool = False, passive: bool = False, channel: Channel | None = None
    ) -> queue_declare_ok_t:
        """Declare the queue alone; returns its name, number of ready messages and of consumers.

        ``passive`` creates nothing and raises ``NotFound`` when the queue does not exist.
        """
        channel = channel or self.channel
        declared = channel.queue_declare(
            queue=self.name,
            passive=passive,
            durable=self.durable,
            exclusive=self.exclusive,
            auto_delete=self.auto_delete,
            arguments=channel.prepare_queue_arguments(
                self.queue_arguments or {},
                expires=self.expires,
                message_ttl=self.message_ttl,
                max_length=self.max_length,
                max_length_bytes=self.max_length_bytes,
                max_priority=self.max_priority,
            ),
            nowait=nowait,
        )
        if declared is not None:  # nowait has no answer
            if not self.name:
                self.name = declared[0]
                if self.on_declared and hasattr(type(channel), "on_queue_renamed"):
                    channel.on_queue_renamed(self.name, self.on_declared)
            if self.on_declared:
                self.on_declared(*declared)
        return declared

    def queue_bind(self, nowait: bool = False, channel: Channel | None = None) -> None:
        """Bind the queue to its exchange by its routing key."""
        self.bind_to(self.exchange or "", self.routing_key, self.binding_arguments, channel=channel, nowait=nowait)

    def bind_to(
        self,
        exchange: Exchange | str = "",
        routing_key: str = "",
        arguments: Mapping[str, object] | None = None,
        nowait: bool = False,
        channel: Channel | None = None,
    ) -> None:
        """Bind the queue to an exchange."""
        (channel or self.channel).queue_bind(
            queue=self.name,
            exchange=name_of(exchange),
            routing_key=routing_key,
            arguments=arguments,
            nowait=nowait,
        )

    def queue_unbind(
        self, arguments: Mapping[str, object] | None = None, nowait: bool = False, channel: Channel | None = None
    ) -> None:
        """Undo ``queue_bind``; the arguments must be the same."""
        self.unbind_from(self.exchange or "", self.routing_key, arguments, nowait, channel)

    def unbind_from(
        self,
        exchange: Exchange | str = "",
        routing_key: str = "",
        arguments: Mapping[str, object] | None = None,
        nowait: bool = False,
        channel: Channel | None = None,
    ) -> None:
        """Undo ``bind_to``; routing key and arguments must be the same."""
        (channel or self.channel).queue_unbind(
            queue=self.name,
            exchange=name_of(exchange),
            routing_key=routing_key,
            arguments=arguments,
            nowait=nowait,
        )

    def get(self, no_ack: bool | None = None, accept: Iterable[str] | None = None) -> Message | None:
        """Poll for one message; ``None`` when the queue is empty.

        ``no_ack`` (default: the queue's) needs no acknowledgement.  ``accept`` lists the content
        types the message's ``decode`` will take.
        """
        message = self.channel.basic_get(queue=self.name, no_ack=self.no_ack if no_ack is None else no_ack)
        if message is not None:
            message.accept = prepare_accept_content(None if accept is None else list(accept))
            if message.errors:
                message._reraise_error()
        return message

    def purge(self, nowait: bool = False) -> int:
        """Delete all ready messages; returns how many there were."""
        return self.channel.queue_purge(queue=self.name, nowait=nowait) or 0

    def consume(
        self,
        consumer_tag: str = "",
        callback: Callable[[Message], object] | None = None,
        no_ack: bool | None = None,
        nowait: bool = False,
        on_cancel: Callable[[str], object] | None = None,
    ) -> str:
        """Have ``callback(message)`` called for each message, until cancelled or the channel is closed.

        An empty ``consumer_tag`` has one made.  ``on_cancel(consumer_tag)`` is called when the broker
        ends the subscription because the queue has gone.
        """
        return self.channel.basic_consume(
            queue=self.name,
            no_ack=self.no_ack if no_ack is None else no_ack,
            consumer_tag=consumer_tag or "",
            callback=callback,
            nowait=nowait,
            arguments=self.consumer_arguments,
            on_cancel=on_cancel,
        )

    def cancel(self, consumer_tag: str) -> None:
        """End a subscription."""
        self.channel.basic_cancel(consumer_tag)

    def delete(self, if_unused: bool = False, if_empty: bool = False, nowait: bool = False) -> int:
        """Delete the queue; returns the number of messages deleted with it.

        ``if_unused`` and ``if_empty`` raise ``PreconditionFailed`` when it has consumers or messages.
        """
        return self.channel.queue_delete(queue=self.name, if_unused=if_unused, if_empty=if_empty, nowait=nowait)

    @property
    def can_cache_declaration(self) -> bool:  # type: ignore[override]
        """Whether one declaration is enough: an auto-delete or expiring queue may have gone since."""
        return not (self.auto_delete or self.expires or "x-expires" in (self.queue_arguments or ()))

    @property
    def declaration(self) -> tuple[object, ...]:
        """What was declared, as one hashable value."""
        limits = (self.expires, self.message_ttl, self.max_length, self.max_length_bytes, self.max_priority)
        kind = (self.durable, self.exclusive, self.auto_delete, limits, freeze(self.queue_arguments))
        main = (self.exchange and self.exchange.declaration, self.routing_key, freeze(self.binding_arguments))
        return ("Q", self.name, kind, main, frozenset(each.declaration for each in self.bindings))

    @classmethod
    def from_dict(cls, queue: str, **options: Any) -> Queue:
        """Make a queue of settings: ``exchange``, ``exchange_type``, ``binding_key``, ...

        ``durable``, ``auto_delete`` and ``arguments`` can be given for each by an ``exchange_`` or
        ``queue_`` prefix; the other attributes of a queue go by their own names.
        """

        def setting(name: str, prefix: str) -> Any:
            value = options.get(f"{prefix}_{name}")
            return options.get(name) if value is None else value

        exchange = Exchange(
            options.get("exchange"),
            type=options.get("exchange_type"),
            delivery_mode=options.get("delivery_mode"),
            durable=setting("durable", "exchange"),
            auto_delete=setting("auto_delete", "exchange"),
            arguments=options.get("exchange_arguments"),
        )
        given = {"name", "exchange", "routing_key", "durable", "auto_delete"}
        rest = {name: options[name] for name, _ in cls.attrs if name in options and name not in given}
        return Queue(
            queue,
            exchange=exchange,
            routing_key=options.get("binding_key") or options.get("routing_key"),
            durable=setting("durable", "queue"),
            auto_delete=setting("auto_delete", "queue"),
            **rest,
        )

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """The attributes as a dict; with ``recurse`` exchange and bindings are dicts as well."""
        result = super().as_dict(recurse)
        if recurse and result["bindings"]:
            result["bindings"] = [each.as_dict(recurse=True) for each in result["bindings"]]
        return result

    def __hash__(self) -> int:
        return hash(f"Q|{self._name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Queue):
            return NotImplemented
        return (
            self._name == other._name
            and self.exchange == other.exchange
            and self.routing_key == other.routing_key
            and self.queue_arguments == other.queue_arguments
            and self.binding_arguments == other.binding_arguments
            and self.consumer_arguments == other.consumer_arguments
            and self.durable == other.durable
            and self.exclusive == other.exclusive
            and self.auto_delete == other.auto_delete
        )

    def __repr__(self) -> str:
        if self.bindings:
            return self._repr_entity(f"Queue {bare(self.name)} -> [{', '.join(map(str, self.bindings))}]")
        return self._repr_entity(f"Queue {bare(self.name)} -> {self.exchange!r} -> {bare(self.routing_key)}")
