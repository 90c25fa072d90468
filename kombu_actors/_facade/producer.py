"""Publishing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from ..serialization import dumps
from ..utils.charsets import encode_text
from ..utils.functional import ChannelPromise
from ..utils.time import milliseconds
from .declare import maybe_declare
from .exchange import Exchange, maybe_delivery_mode
from .queue import Queue
from .surface import Bindable, connection_of, is_connection

if TYPE_CHECKING:
    from ..connection import Connection
    from .accepted import Accepted
    from .channel import Channel
    from .contracts import EnsureOptions
    from .message import Message

__all__ = ["Producer"]

OnReturn = Callable[[Exception, str, str, "Message"], object]


class Producer:
    """Publishes messages.

    ``channel`` may be a connection: then its default channel is used, opened at the first publish.
    ``exchange``, ``routing_key``, ``serializer`` (JSON) and ``compression`` (none) are the defaults
    of ``publish``.  With ``auto_declare`` (default) the exchange is declared, once per connection,
    before the first publish.  ``on_return(exception, exchange, routing_key, message)`` is called,
    while the connection drains events, for each ``mandatory`` message that no queue took.

    May be used from any thread: the body is encoded in the calling thread, the rest is the
    connection's.
    """

    exchange: Exchange = None  # type: ignore[assignment]  # documented for the class; each producer has one
    routing_key: str = ""
    serializer: str | None = None
    compression: str | None = None
    auto_declare: bool = True
    on_return: OnReturn | None = None
    __connection__: Connection | None = None
    """The connection, if one was given in place of a channel."""

    def __init__(
        self,
        channel: Bindable | None,
        exchange: Exchange | str | None = None,
        routing_key: str | None = None,
        serializer: str | None = None,
        auto_declare: bool | None = None,
        compression: str | None = None,
        on_return: OnReturn | None = None,
    ) -> None:
        self._channel: Channel | ChannelPromise[Channel] | None = None
        self.exchange = Exchange(exchange or "") if exchange is None or isinstance(exchange, str) else exchange
        self.routing_key = routing_key or self.routing_key
        self.serializer = serializer or self.serializer
        self.compression = compression or self.compression
        self.on_return = on_return or self.on_return
        if auto_declare is not None:
            self.auto_declare = auto_declare
        if channel:
            self.revive(channel)

    def __repr__(self) -> str:
        return f"<Producer: {self._channel}>"

    def __reduce__(self) -> tuple[type[Producer], tuple[object, ...]]:
        return type(self), self.__reduce_args__()

    def __reduce_args__(self) -> tuple[object, ...]:
        return (None, self.exchange, self.routing_key, self.serializer, self.auto_declare, self.compression)

    @property
    def channel(self) -> Channel:
        """The channel; opened now, if a connection was given and none was needed before."""
        channel = self._channel
        if isinstance(channel, ChannelPromise):
            channel = self._channel = channel()
            self._watch_returns(channel)
        return channel  # type: ignore[return-value]  # None for a producer that was made without one, as kombu's

    @channel.setter
    def channel(self, channel: Channel | None) -> None:
        self._channel = channel

    def revive(self, channel: Bindable) -> None:
        """Move to another channel, or to a connection's default one."""
        if is_connection(channel):
            connection = self.__connection__ = channel
            bound: Channel | ChannelPromise[Channel] = ChannelPromise(lambda: connection.default_channel)
        else:
            bound = cast("Channel | ChannelPromise[Channel]", channel)
        self._channel = bound
        self.exchange = self.exchange(bound)
        if not isinstance(bound, ChannelPromise):
            self._watch_returns(bound)

    def _watch_returns(self, channel: Channel) -> None:
        if self.on_return:
            channel.events["basic_return"].add(self.on_return)

    @property
    def connection(self) -> Connection:
        """The connection; ``None`` without a channel."""
        if self.__connection__ is not None:
            return self.__connection__
        return cast("Connection", self._channel and connection_of(self.channel))

    def declare(self) -> None:
        """Declare the default exchange, whether or not it was declared before."""
        if self.exchange.name:
            self.exchange.declare()

    def maybe_declare(
        self, entity: Exchange | Queue | None, retry: bool = False, **retry_policy: Unpack[EnsureOptions]
    ) -> bool | None:
        """Declare an entity, unless this connection has declared it already; returns whether it did."""
        return maybe_declare(entity, self.channel, retry, **retry_policy) if entity else None

    def publish(
        self,
        body: Any,
        routing_key: str | None = None,
        delivery_mode: int | str | None = None,
        mandatory: bool = False,
        immediate: bool = False,
        priority: int | None = 0,
        content_type: str | None = None,
        content_encoding: str | None = None,
        serializer: str | None = None,
        headers: Mapping[str, object] | None = None,
        compression: str | None = None,
        exchange: Exchange | str | None = None,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        declare: Iterable[Exchange | Queue | None] | None = None,
        expiration: float | None = None,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
        **properties: object,
    ) -> Accepted:
        """Publish a message.

        ``body`` is serialized unless ``content_type`` says that you have done it: then it is sent as
        it is (``str`` encoded by ``content_encoding``, default UTF-8).  ``delivery_mode`` (1, 2,
        ``"transient"``, ``"persistent"``) defaults to the exchange's.  ``expiration`` is in seconds.
        ``declare`` lists entities to declare first, once per connection.  Further keywords are
        message properties: ``correlation_id``, ``reply_to`` (a name or a ``Queue``), ``message_id``,
        ``type``, ``timestamp``, ...  Nothing you pass in is changed.

        Returns when the connection has taken responsibility for the message, or, with its
        ``confirm_publish`` option, when the broker has.  ``timeout`` and ``confirm_timeout`` bound
        that (seconds; default: the connection's).  With ``retry`` connection errors are ridden out
        by ``Connection.ensure``, whose keywords ``retry_policy`` takes.

        Raises ``EncodeError`` or ``ValueError`` before anything is sent, ``OperationalError`` when
        there is no connection (without ``retry``) or the retries are used up.
        """
        if not content_type:
            content_type, content_encoding, body = dumps(body, serializer or self.serializer)
        elif isinstance(body, str):
            content_encoding = content_encoding or "utf-8"
            body = encode_text(body, content_encoding)
        elif not content_encoding:
            content_encoding = "binary"
        if compression is None:
            compression = self.compression
        if compression:
            from ..compression import compress  # where nothing is compressed it need not be loaded

            body, method = compress(body, compression)
            headers = {**(headers or {}), "compression": method}
        elif headers is None:
            headers = {}

        default = self.exchange
        if exchange is None or exchange == "":
            exchange = default
        if isinstance(exchange, Exchange):
            properties["delivery_mode"] = maybe_delivery_mode(delivery_mode or exchange.delivery_mode)
            exchange = exchange.name
        else:
            properties["delivery_mode"] = maybe_delivery_mode(delivery_mode or default.delivery_mode)
        if expiration is not None:
            properties["expiration"] = str(milliseconds("expiration", expiration))
        reply_to = properties.get("reply_to")
        if isinstance(reply_to, Queue):
            properties["reply_to"] = reply_to.name
        if routing_key is None:
            routing_key = self.routing_key

        publish = self._publish
        if retry:
            publish = self.connection.ensure(self, publish, **(retry_policy or {}))
        return publish(
            body, priority, content_type, content_encoding, headers, properties,
            routing_key, mandatory, immediate, exchange, declare, timeout, confirm_timeout,
        )  # fmt: skip

    def _publish(
        self,
        body: str | bytes,
        priority: int | None,
        content_type: str | None,
        content_encoding: str | None,
        headers: Mapping[str, object],
        properties: dict[str, object],
        routing_key: str,
        mandatory: bool,
        immediate: bool,
        exchange: str,
        declare: Iterable[Exchange | Queue | None] | None,
        timeout: float | None = None,
        confirm_timeout: float | None = None,
    ) -> Accepted:
        """One attempt; ``ensure`` may make several, each on the channel of the moment."""
        channel = self.channel
        message = channel.prepare_message(body, priority, content_type, content_encoding, headers, properties)
        for entity in declare or ():
            if entity is not None:
                maybe_declare(entity, channel)
        if self.auto_declare and self.exchange.name:
            maybe_declare(self.exchange, channel)
        return channel.basic_publish(
            message,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            immediate=immediate,
            timeout=timeout,
            confirm_timeout=confirm_timeout,
        )

    @property
    def supports_batch_publish(self) -> bool:
        """Whether ``batch`` holds publishes back: no, those that come together travel together anyway."""
        return False

    @contextmanager
    def batch(self, max_size: int = 1000) -> Iterator[Self]:
        """A block of publishes, each of which is made at once, as kombu does where the transport has no batches."""
        if max_size < 1:
            raise ValueError(f"max_size is a number of publishes from 1 on and can't be {max_size!r:.80}")
        yield self

    def release(self) -> None:
        """Does nothing: the channel is the connection's, or yours."""

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.release()
