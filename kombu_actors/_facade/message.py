"""Received messages: their body, what is known about them, and the one decision about them."""

from __future__ import annotations

from collections.abc import Callable, Container
from logging import Logger
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .._values.model import Delivery
from ..errors import DecodeError, MessageStateError
from ..serialization import loads, registry
from ..utils.charsets import SKIP_DECODE, decode_text
from ..utils.functional import dictfilter

if TYPE_CHECKING:
    from .._bridge.inbox import Taken
    from .channel import Channel

__all__ = ["Message"]

_UNREAD: Final = object()
"""Marks a payload that wasn't decoded yet: ``None`` is a payload."""
_RECEIVED: Final = "RECEIVED"
_NO_ACK: Final = "NO_ACK"
_DECIDED: Final = frozenset({"ACK", "REJECTED", "REQUEUED"})


class Message:
    """A message as received.

    ``body`` is the raw body, decompressed; ``payload`` the decoded one.  ``delivery_info`` says how
    it came (``exchange``, ``routing_key``, ``redelivered``, ``consumer_tag``, ``delivery_tag``);
    it, ``headers`` and ``properties`` are private to the message.  ``accept`` holds the content types
    ``decode`` may decode.  ``errors`` lists what went wrong unpacking the body, as ``sys.exc_info()``
    gives it.

    Exactly one of ``ack``, ``reject`` and ``requeue`` may be called, once.  What costs something to
    make (the three tables; a compressed body) is made when it is first asked for.
    """

    MessageStateError = MessageStateError

    __slots__ = (
        "__dict__",
        "_delivery",
        "_messages_left",
        "_payload",
        "_state",
        "_taken",
        "accept",
        "body",
        "channel",
        "content_encoding",
        "content_type",
        "delivery_info",
        "delivery_tag",
        "errors",
        "headers",
        "properties",
    )

    _messages_left: int | None
    body: Any
    delivery_info: dict[str, Any]
    errors: list[tuple[type[Exception], Exception, TracebackType | None]]
    headers: dict[str, Any]
    properties: dict[str, Any]

    def __init__(
        self,
        body: object = None,
        delivery_tag: Any = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        delivery_info: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        postencode: str | None = None,
        accept: Container[str] | None = None,
        channel: Channel | None = None,
        **kwargs: object,
    ) -> None:
        """Make a message by hand; ``postencode`` is the charset in which a ``str`` body becomes bytes."""
        self._delivery: Delivery | None = None
        self._payload: object = _UNREAD
        self._state = _RECEIVED
        self._taken: Taken | None = None
        self.accept = accept
        self.channel = channel
        self.content_encoding = content_encoding
        self.content_type = content_type
        self.delivery_info = delivery_info or {}
        self.delivery_tag = delivery_tag
        self.headers = headers or {}
        self.properties = properties or {}
        self._unpack(body, self.headers.get("compression"), postencode)

    @classmethod
    def from_delivery(
        cls,
        delivery: Delivery,
        channel: Channel | None,
        accept: Container[str] | None = None,
        *,
        no_ack: bool = False,
        message_count: int | None = None,
        text_body: bool = False,
    ) -> Message:
        """Make a message of what a transport delivered; every received message comes from here.

        ``no_ack`` says that the broker expects no decision, ``message_count`` how many messages
        ``basic.get`` left in the queue.  ``text_body`` makes ``body`` a ``str`` where the content
        encoding is a charset, which is what kombu does on AMQP, and only there.
        """
        self = cls.__new__(cls)
        properties = delivery.properties
        self._delivery = delivery
        self._payload = _UNREAD
        self._state = _NO_ACK if no_ack else _RECEIVED
        self._taken = None
        self.accept = accept
        self.channel = channel
        self.content_encoding = encoding = properties.get("content_encoding")
        self.content_type = properties.get("content_type")
        self.delivery_tag = delivery.delivery_tag
        headers = properties.get("headers")
        if not headers or not headers.get("compression"):
            self.errors = []
            self.body = _as_text(delivery.body, encoding) if text_body and encoding else delivery.body
        self._messages_left = message_count
        return self

    if not TYPE_CHECKING:  # a misspelt attribute must stay an error to the type checker

        def __getattr__(self, name: str) -> object:
            """Fill a slot that ``from_delivery`` left for later."""
            delivery = None if name == "_delivery" else self._delivery
            if delivery is None or name not in _LATER:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            if name == "delivery_info":
                self.delivery_info = self._describe(delivery)
            elif name == "headers":
                self.headers = dict(delivery.properties.get("headers") or ())
            elif name == "properties":
                self.properties = dict(delivery.properties)
                if "headers" in self.properties:  # under py-amqp's name, as kombu shows it
                    self.properties["application_headers"] = self.properties.pop("headers")
            else:
                self._unpack(delivery.body, delivery.properties["headers"]["compression"])
            return object.__getattribute__(self, name)

    def _hand_over(self) -> None:
        """User code has it from now on: if it is interrupted, the message does not go back into the inbox."""
        taken = self._taken
        if taken is not None:
            del taken[:]

    def _describe(self, delivery: Delivery) -> dict[str, object]:
        info: dict[str, object] = {"consumer_tag": delivery.consumer_tag} if delivery.consumer_tag else {}
        info["delivery_tag"] = self.delivery_tag  # the channel's, unique over all its epochs
        info["redelivered"] = delivery.redelivered
        info["exchange"] = delivery.exchange
        info["routing_key"] = delivery.routing_key
        if self._messages_left is not None:
            info["message_count"] = self._messages_left
        return info

    def _unpack(self, body: Any, compression: str | None, postencode: str | None = None) -> None:
        self.errors = []
        try:
            if compression:
                from ..compression import decompress  # where nothing is compressed it need not be loaded

                body = decompress(body, compression)
            if postencode and isinstance(body, str):
                body = body.encode(postencode)
        except Exception as error:  # reported by the consumer, in its own way, or by decode()
            self.errors.append((type(error), error, error.__traceback__))
        self.body = body

    def _reraise_error(self, callback: Callable[[Message, Exception], object] | None = None) -> None:
        _, error, _ = self.errors[0]
        if callback is None:
            raise error
        callback(self, error)

    def ack(self, multiple: bool = False) -> None:
        """Tell the broker that this message is done with (``multiple``: and all before it on its channel).

        Does nothing for a message that was consumed with ``no_ack``.  Raises ``MessageStateError``
        when the message was decided before, ``StaleDelivery`` when its channel has died since: the
        broker delivers it again.
        """
        if self._state is _NO_ACK:
            return
        channel = self.channel
        if channel is None or self._state is not _RECEIVED:
            channel = self._undecided()
        channel.basic_ack(self.delivery_tag, multiple)
        self._state = "ACK"

    def reject(self, requeue: bool = False) -> None:
        """Refuse this message: the broker drops or dead-letters it, or with ``requeue`` delivers it again.

        Raises as ``ack`` does, and ``MessageStateError`` for a message consumed with ``no_ack``.
        """
        self._undecided().basic_reject(self.delivery_tag, requeue=requeue)
        self._state = "REJECTED"

    def requeue(self) -> None:
        """Put this message back into its queue, near its old place; some consumer gets it again, perhaps at once.

        Raises as ``reject`` does.
        """
        self._undecided().basic_reject(self.delivery_tag, requeue=True)
        self._state = "REQUEUED"

    def _undecided(self) -> Channel:
        if self.channel is None:
            raise self.MessageStateError("This message does not have a receiving channel")
        if self._state is not _RECEIVED:
            if self._state is _NO_ACK:
                raise self.MessageStateError("Message was consumed with no_ack: the broker has already forgotten it")
            raise self.MessageStateError(f"Message already acknowledged with state: {self._state}")
        return self.channel

    def ack_log_error(
        self, logger: Logger, errors: type[BaseException] | tuple[type[BaseException], ...], multiple: bool = False
    ) -> None:
        """``ack``, but log ``errors`` instead of raising them; a broken pipe is logged and raised."""
        try:
            self.ack(multiple=multiple)
        except BrokenPipeError as exc:
            logger.critical("Couldn't ack %r, reason:%r", self.delivery_tag, exc, exc_info=True)
            raise
        except errors as exc:
            logger.critical("Couldn't ack %r, reason:%r", self.delivery_tag, exc, exc_info=True)

    def reject_log_error(
        self, logger: Logger, errors: type[BaseException] | tuple[type[BaseException], ...], requeue: bool = False
    ) -> None:
        """``reject``, but log ``errors`` instead of raising them."""
        try:
            self.reject(requeue=requeue)
        except errors as exc:
            logger.critical("Couldn't reject %r, reason: %r", self.delivery_tag, exc, exc_info=True)

    def decode(self) -> Any:
        """The body as the publisher's Python value; decoded once, then remembered.

        Raises ``ContentDisallowed`` when the content type isn't accepted (before the body is
        decompressed or decoded), ``DecodeError`` when the body isn't what it claims to be.
        """
        if self._payload is _UNREAD:
            self._payload = self._decode()
        return self._payload

    def _decode(self) -> object:
        registry.check_content(self.content_type, self.accept)
        if self.errors:
            self._reraise_error()
        return loads(self.body, self.content_type, self.content_encoding, self.accept)

    @property
    def acknowledged(self) -> bool:
        """Whether the message was acknowledged, rejected or requeued."""
        return self._state in _DECIDED

    @property
    def payload(self) -> Any:
        """The decoded body, see ``decode``."""
        return self.decode() if self._payload is _UNREAD else self._payload

    def __repr__(self) -> str:
        details = dictfilter(
            state=self._state,
            content_type=self.content_type,
            delivery_tag=self.delivery_tag,
            body_length=None if self.body is None else len(self.body),
            properties=dictfilter(
                correlation_id=self.properties.get("correlation_id"), type=self.properties.get("type")
            ),
            delivery_info=dictfilter(
                exchange=self.delivery_info.get("exchange"), routing_key=self.delivery_info.get("routing_key")
            ),
        )
        return f"<{type(self).__name__} object at {id(self):#x} with details {details!r}>"


_LATER: Final = frozenset({"body", "delivery_info", "errors", "headers", "properties"})


def _as_text(body: bytes, encoding: str) -> bytes | str:
    """The body as text if it is; what isn't is left for ``decode`` to complain about."""
    try:
        if encoding == "utf-8":
            return body.decode()
        return body if encoding.lower() in SKIP_DECODE else decode_text(body, encoding)
    except (UnicodeDecodeError, DecodeError):
        return body
