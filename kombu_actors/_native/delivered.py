"""What a subscription yields: a message, and the one decision about it."""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import attrs

from .._values.model import Delivery
from ..compression import decompress
from ..errors import DecodeError, MessageStateError, StaleDelivery
from ..serialization import loads, prepare_accept_content, registry
from ..supervisors._interrupts import protected, unprotected

T = TypeVar("T")


class Settles(Protocol):
    """The channel that messages came over, in its one life: where they are settled."""

    @property
    def closed(self) -> BaseException | None:
        """Why it is dead, and its messages come again; None while it lives."""

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery; never waits."""

    def reject(self, tag: int) -> None:
        """Have it dead-lettered, or dropped; never waits."""

    def nack(self, tag: int, *, requeue: bool = True) -> None:
        """Have it put back; never waits."""


@attrs.frozen(eq=False)
class Terms:
    """What all messages of one subscription have in common."""

    accept: Container[str] | None
    """The content types that may be decoded; JSON when None."""
    no_ack: bool
    """Whether the broker has settled each message by sending it."""

    @classmethod
    def of(cls, accept: Collection[str] | None, no_ack: bool) -> Terms:
        """From what a program says: names of serializers, or content types."""
        return cls(prepare_accept_content(accept) if accept is not None else None, no_ack)


@protected
class Delivered:
    """A message from ``Broker.subscribe``, ``consume``, ``get`` or ``request``.

    It is settled once: by ``ack``, ``reject`` or ``requeue``, or by leaving ``async with message:``, which acks
    it, rejects it when the block raised an error (so that its queue dead-letters it, or drops it), and puts it back
    when the block was cancelled or interrupted.  What the block settled itself stays as it is.  Entering and leaving
    wait for nothing.

    A settlement counts only over the session the message came in.  When that has been lost since, or the block of the
    subscription was left, the broker delivers the message again, whatever is decided about it here: ``ack`` and its
    kin then send nothing and return False, or raise with ``strict=True``.
    """

    __slots__ = ("_delivery", "_settled", "_terms", "_wire")

    def __init__(self, delivery: Delivery, wire: Settles, terms: Terms) -> None:
        self._delivery = delivery
        self._wire = wire
        self._terms = terms
        self._settled = False

    def __repr__(self) -> str:
        d = self._delivery
        return f"<Delivered {d.delivery_tag} from {d.exchange!r}/{d.routing_key!r}, {len(d.body)} bytes>"

    @property
    def body(self) -> bytes:
        """The raw body."""
        return self._delivery.body

    @property
    def exchange(self) -> str:
        """The exchange it was published to; ``""`` is the default one."""
        return self._delivery.exchange

    @property
    def routing_key(self) -> str:
        """What it was published with; over the default exchange, the queue's name."""
        return self._delivery.routing_key

    @property
    def headers(self) -> Mapping[str, object]:
        """Application headers; shared, don't change them."""
        headers: Mapping[str, object] = self._delivery.properties.get("headers") or {}
        return headers

    @property
    def properties(self) -> Mapping[str, object]:
        """Message properties under AMQP's names; shared, don't change them."""
        return self._delivery.properties

    @property
    def reply_to(self) -> str | None:
        """The queue that a reply goes to; None when nobody asked for one."""
        return self._text("reply_to")

    @property
    def correlation_id(self) -> str | None:
        """What tells the asker which request a reply is for."""
        return self._text("correlation_id")

    @property
    def message_id(self) -> str | None:
        """The publisher's name for the message: the same each time it is sent again."""
        return self._text("message_id")

    @property
    def content_type(self) -> str | None:
        """What the body claims to be."""
        return self._text("content_type")

    @property
    def redelivered(self) -> bool:
        """Whether the broker may have delivered it before."""
        return self._delivery.redelivered

    @property
    def delivery_count(self) -> int | None:
        """How often it was delivered before, in vain; None when the broker doesn't know.

        Quorum queues count (on every transport); a classic queue only knows which delivery is the first.
        """
        count = self.headers.get("x-delivery-count")
        if isinstance(count, int):
            return count
        return None if self._delivery.redelivered else 0

    @property
    def payload(self) -> object:
        """The body as the publisher's Python value; ``payload_as`` has it with a type.

        Raises:
            ContentDisallowed: its content type isn't accepted (checked before anything is decoded).
            DecodeError: it isn't what it claims to be.
        """
        return unprotected(self._decode)

    def payload_as(self, kind: type[T]) -> T:
        """``payload``, which has to be an instance of ``kind``: ``message.payload_as(dict)``.

        Raises:
            ContentDisallowed, DecodeError: as ``payload``; and ``DecodeError`` when it is of another kind.
        """
        payload = unprotected(self._decode)
        if not isinstance(payload, kind):
            raise DecodeError(f"the payload is to be a {kind.__name__}, and is a {type(payload).__name__}")
        return payload

    @property
    def settled(self) -> bool:
        """Whether it has been acked, rejected or requeued here, in time or not."""
        return self._settled or self._terms.no_ack

    @property
    def stale(self) -> bool:
        """Whether a settlement would come too late: the broker delivers the message again."""
        return self._wire.closed is not None and not self._terms.no_ack

    def ack(self, *, strict: bool = False) -> bool:
        """Tell the broker that the message is done with; returns whether that was in time.

        In time it is sent, and counts once the broker has read it: AMQP has no answer to an ack, so a session that is
        lost right then may lose it, too, and the message comes again.  With ``no_ack`` the broker has taken it for done
        when it sent it: this does nothing, and is True.

        Args:
            strict: raise when it comes too late, instead of returning False.

        Raises:
            MessageStateError: it was settled before.
            StaleDelivery: it comes too late, and ``strict``.
        """
        if self._terms.no_ack:
            return True
        if not self._settle(strict):
            return False
        self._wire.ack(self._delivery.delivery_tag)
        return True

    def reject(self, *, strict: bool = False) -> bool:
        """Have the broker dead-letter the message, or drop it where its queue has no dead-letter exchange.

        Returns and raises as ``ack``; with ``no_ack`` there is nothing to decide: ``MessageStateError``.
        """
        return self._give_up(strict, requeue=False)

    def requeue(self, *, strict: bool = False) -> bool:
        """Put the message back into its queue, near its old place, marked ``redelivered``.

        It is sent as ``basic.nack``: RabbitMQ's quorum queues from 4.3 on count a rejected message as a failed
        delivery, and don't count one that is handed back.

        Returns and raises as ``reject``.
        """
        return self._give_up(strict, requeue=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.settled:
            return
        if error is None:
            self.ack()
        elif isinstance(error, Exception):
            self.reject()
        else:
            self.requeue()

    def _give_up(self, strict: bool, *, requeue: bool) -> bool:
        if self._terms.no_ack:
            raise MessageStateError("the message was consumed with no_ack: the broker has settled it")
        if not self._settle(strict):
            return False
        if requeue:
            self._wire.nack(self._delivery.delivery_tag, requeue=True)
        else:
            self._wire.reject(self._delivery.delivery_tag)
        return True

    def _settle(self, strict: bool) -> bool:
        if self._settled:
            raise MessageStateError("the message was settled before")
        self._settled = True
        reason = self._wire.closed
        if reason is None:
            return True
        if strict:
            raise StaleDelivery(f"too late, the broker delivers the message again: {reason}") from reason
        return False

    def _decode(self) -> object:
        properties = self._delivery.properties
        content_type = properties.get("content_type")
        accept = self._terms.accept
        registry.check_content(content_type, accept)
        compression: Any = self.headers.get("compression")
        body = decompress(self.body, compression) if compression else self.body
        decoded: object = loads(body, content_type, properties.get("content_encoding"), accept)
        return decoded

    def _text(self, name: str) -> str | None:
        value = self._delivery.properties.get(name)
        return value if isinstance(value, str) else None
