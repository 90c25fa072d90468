"""Exchanges, and bindings to them, as declarations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from .._values.model import freeze
from ..utils.charsets import encode_text
from .bound import Attributes, MaybeChannelBound, Object

if TYPE_CHECKING:
    from .accepted import Accepted
    from .channel import Channel, Prepared
    from .queue import Queue
    from .surface import Bindable

TRANSIENT_DELIVERY_MODE: Final = 1
PERSISTENT_DELIVERY_MODE: Final = 2
DELIVERY_MODES: Final[Mapping[str, int]] = {
    "transient": TRANSIENT_DELIVERY_MODE,
    "persistent": PERSISTENT_DELIVERY_MODE,
}
INTERNAL_EXCHANGE_PREFIX: Final = ("amq.",)
"""Exchanges of these names exist on every broker and can't be declared."""


def maybe_delivery_mode(
    v: int | str | None, modes: Mapping[str, int] | None = None, default: int = PERSISTENT_DELIVERY_MODE
) -> int:
    """The number of a delivery mode given by name or number; ``default`` when none is given.

    Raises ``ValueError`` for an unknown name.
    """
    return _delivery_mode(v, modes or DELIVERY_MODES) if v else default


def _delivery_mode(v: int | str, modes: Mapping[str, int] = DELIVERY_MODES) -> int:
    if isinstance(v, int):
        return v
    try:
        return modes[v]
    except KeyError:
        raise ValueError(f"delivery_mode must be 1, 2 or one of {', '.join(modes)}, not {v!r:.40}") from None


class Exchange(MaybeChannelBound):
    """An exchange: where messages are published to, and how they find queues from there.

    ``type`` is ``direct`` (default; routing key equals binding key), ``topic`` (``*`` in the binding
    key stands for one word, ``#`` for any number), ``fanout`` (all bound queues) or ``headers``
    (binding arguments, with ``x-match`` saying ``all`` or ``any``).  ``durable`` (default) exchanges
    survive a broker restart, ``auto_delete`` ones go with their last binding.  ``delivery_mode`` is
    the default for messages published here: ``"persistent"`` (2, default) or ``"transient"`` (1).
    ``arguments`` go to the broker.  ``passive`` only checks that the exchange exists,
    ``no_declare`` never declares it.
    """

    TRANSIENT_DELIVERY_MODE: ClassVar = TRANSIENT_DELIVERY_MODE
    PERSISTENT_DELIVERY_MODE: ClassVar = PERSISTENT_DELIVERY_MODE

    name: str = ""
    type: str = "direct"
    arguments: dict[str, object] | None
    durable: bool = True
    auto_delete: bool = False
    passive: bool = False
    delivery_mode: int | None = None
    no_declare: bool = False

    attrs: Attributes = (
        ("name", None),
        ("type", None),
        ("arguments", None),
        ("durable", bool),
        ("passive", bool),
        ("auto_delete", bool),
        ("delivery_mode", lambda m: _delivery_mode(m) if m else m),
        ("no_declare", bool),
    )

    def __init__(
        self, name: str | None = "", type: str | None = "", channel: Bindable | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.name = name or self.name
        self.type = type or self.type
        self.maybe_bind(channel)

    def _can_declare(self) -> bool:
        return bool(self.name) and not self.no_declare and not self.name.startswith(INTERNAL_EXCHANGE_PREFIX)

    def declare(self, nowait: bool = False, passive: bool | None = None, channel: Channel | None = None) -> None:
        """Create the exchange, or with ``passive`` check that it exists.

        Does nothing for the default exchange, ``amq.*`` and ``no_declare``.  ``channel`` is used
        instead of the bound one.  Raises ``NotFound`` (passive) or ``PreconditionFailed`` (it exists
        with other settings).
        """
        if not self._can_declare():
            return
        (channel or self.channel).exchange_declare(
            exchange=self.name,
            type=self.type,
            durable=self.durable,
            auto_delete=self.auto_delete,
            arguments=self.arguments,
            nowait=nowait,
            passive=self.passive if passive is None else passive,
        )

    def bind_to(
        self,
        exchange: Exchange | str = "",
        routing_key: str = "",
        arguments: Mapping[str, object] | None = None,
        nowait: bool = False,
        channel: Channel | None = None,
        **kwargs: object,
    ) -> None:
        """Have ``exchange`` pass messages with this routing key on to this exchange."""
        (channel or self.channel).exchange_bind(
            destination=self.name,
            source=name_of(exchange),
            routing_key=routing_key,
            nowait=nowait,
            arguments=arguments,
        )

    def unbind_from(
        self,
        source: Exchange | str = "",
        routing_key: str = "",
        nowait: bool = False,
        arguments: Mapping[str, object] | None = None,
        channel: Channel | None = None,
    ) -> None:
        """Undo ``bind_to``; routing key and arguments must be the same."""
        (channel or self.channel).exchange_unbind(
            destination=self.name,
            source=name_of(source),
            routing_key=routing_key,
            nowait=nowait,
            arguments=arguments,
        )

    def Message(
        self,
        body: str | bytes,
        delivery_mode: int | str | None = None,
        properties: Mapping[str, object] | None = None,
        *,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> Prepared:
        """Make a message for ``publish``.

        The body is sent as it is (``str`` as UTF-8, unless ``content_encoding`` says otherwise).
        """
        sent = dict(properties or {})
        sent["delivery_mode"] = maybe_delivery_mode(delivery_mode or self.delivery_mode)
        if isinstance(body, str):
            content_encoding = str(sent.pop("content_encoding", None) or content_encoding or "utf-8")
            body = encode_text(body, content_encoding)
        return self.channel.prepare_message(body, priority, content_type, content_encoding, headers, sent)

    def publish(
        self,
        message: Prepared | str | bytes,
        routing_key: str | None = None,
        mandatory: bool = False,
        immediate: bool = False,
        exchange: str | None = None,
    ) -> Accepted:
        """Publish what ``Message`` made, or a ``str`` or ``bytes`` as it is."""
        if isinstance(message, (str, bytes)):
            message = self.Message(message)
        return self.channel.basic_publish(
            message,
            exchange=exchange or self.name,
            routing_key=routing_key or "",
            mandatory=mandatory,
            immediate=immediate,
        )

    def delete(self, if_unused: bool = False, nowait: bool = False) -> None:
        """Delete the exchange; with ``if_unused`` raises ``PreconditionFailed`` when it has bindings."""
        self.channel.exchange_delete(exchange=self.name, if_unused=if_unused, nowait=nowait)

    def binding(
        self,
        routing_key: str | None = "",
        arguments: Mapping[str, object] | None = None,
        unbind_arguments: Mapping[str, object] | None = None,
    ) -> binding:
        """A binding to this exchange, for ``Queue(bindings=...)``."""
        return binding(self, routing_key, arguments, unbind_arguments)

    @property
    def can_cache_declaration(self) -> bool:  # type: ignore[override]
        """Whether one declaration is enough: an auto-delete exchange may have gone since."""
        return not self.auto_delete

    @property
    def declaration(self) -> tuple[object, ...]:
        """What was declared, as one hashable value."""
        arguments = freeze(self.arguments) if self.arguments else None
        return ("E", self.name, self.type, self.durable, self.auto_delete, arguments)

    def __hash__(self) -> int:
        return hash(f"E|{self.name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Exchange):
            return NotImplemented
        return (
            self.name == other.name
            and self.type == other.type
            and self.arguments == other.arguments
            and self.durable == other.durable
            and self.auto_delete == other.auto_delete
            and self.delivery_mode == other.delivery_mode
        )

    def __repr__(self) -> str:
        return self._repr_entity(str(self))

    def __str__(self) -> str:
        return f"Exchange {bare(self.name) or repr('')}({self.type})"


class binding(Object):
    """A binding key with its exchange and arguments, for a queue that has several."""

    exchange: Exchange | None
    routing_key: str | None
    arguments: Mapping[str, object] | None
    unbind_arguments: Mapping[str, object] | None

    attrs = (("exchange", None), ("routing_key", None), ("arguments", None), ("unbind_arguments", None))

    def __init__(
        self,
        exchange: Exchange | None = None,
        routing_key: str | None = "",
        arguments: Mapping[str, object] | None = None,
        unbind_arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Make one; a ``routing_key`` of ``None`` is sent as the empty one."""
        self.exchange = exchange
        self.routing_key = routing_key
        self.arguments = arguments
        self.unbind_arguments = unbind_arguments

    def declare(self, channel: Channel, nowait: bool = False) -> None:
        """Declare the exchange."""
        if self.exchange and self.exchange.name:
            self.exchange.declare(channel=channel, nowait=nowait)

    def bind(self, entity: Exchange | Queue, nowait: bool = False, channel: Channel | None = None) -> None:
        """Bind a queue or exchange by this binding."""
        entity.bind_to(
            exchange=self.exchange or "",
            routing_key=self.routing_key or "",
            arguments=self.arguments,
            nowait=nowait,
            channel=channel,
        )

    def unbind(self, entity: Exchange | Queue, nowait: bool = False, channel: Channel | None = None) -> None:
        """Undo ``bind``."""
        entity.unbind_from(
            self.exchange or "",
            routing_key=self.routing_key or "",
            arguments=self.unbind_arguments,
            nowait=nowait,
            channel=channel,
        )

    @property
    def declaration(self) -> tuple[object, ...]:
        """What was declared, as one hashable value."""
        exchange = self.exchange.declaration if self.exchange else None
        return (exchange, self.routing_key, freeze(self.arguments))

    def __repr__(self) -> str:
        return f"<binding: {self}>"

    def __str__(self) -> str:
        return f"{bare(name_of(self.exchange))}->{bare(self.routing_key or '')}"


def name_of(exchange: Exchange | str | None) -> str:
    """The name of an exchange given by itself or by name."""
    return exchange.name if isinstance(exchange, Exchange) else exchange or ""


def bare(text: str) -> str:
    """``repr`` without its quotes: control characters of a name never reach a terminal."""
    return repr(text)[1:-1]
