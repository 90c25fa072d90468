"""What a handler sees of the message that it handles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, Unpack

from ..broker import Delivered, MessageProperties
from ..supervisors._interrupts import protected
from ..utils.uuid import uuid
from ._headers import failed_attempts, first_failed_at
from ._payloads import decode_as

__all__ = ["Message", "Outlet"]

T = TypeVar("T")


class Outlet(Protocol):
    """What publishes for the handlers of a fleet: the same call as the client's."""

    async def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | None = None,
        exchange: str = "",
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        timeout: float = 30.0,
        **properties: Unpack[MessageProperties],
    ) -> str:
        """Publish, wait for the confirm, and return the message's id."""


@protected
class Message:
    """One message in the hands of its handler.

    It is settled by what the handler does: returning, raising, ``Reject``, ``Snooze``; there is nothing to ack here.
    """

    __slots__ = (
        *("_delivered", "_failed_here", "_first_at", "_id", "_outlet", "_problem", "_replies", "_trace"),
        *("error", "payload", "queue"),
    )

    def __init__(self, delivered: Delivered, queue: str, outlet: Outlet, *, replies: bool = False) -> None:
        self.queue = queue
        """The queue that it was consumed from."""
        self.payload: object = None
        """What the handler gets: decoded, and made into what its annotation says."""
        self.error: Exception | None = None
        """Of a batch: why this one failed; None as long as it has not."""
        self._trace: object = None
        """What a tracer keeps between the call of the handler and the ack."""
        self._delivered = delivered
        self._outlet = outlet
        self._replies = replies
        self._id: str | None = None
        self._problem: Exception | None = None
        """Why no handler can be called with it."""
        self._failed_here = 0
        """Attempts that failed while it was held in its lane."""
        self._first_at: float | None = None
        """When the first of those failed."""

    def __repr__(self) -> str:
        return f"<Message {self.id} from {self.queue!r}, attempt {self.attempt}, {len(self.body)} bytes>"

    @property
    def id(self) -> str:
        """Its name, the same at each attempt and on its dead letter: for whoever must not do it twice.

        It is the publisher's ``message_id``.  A message that came without one gets one here, which it keeps
        from its first retry on.
        """
        if self._id is None:
            self._id = self._delivered.message_id or uuid()
        return self._id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1.  Snoozes, shutdowns and lost sessions don't count."""
        return failed_attempts(self._delivered.headers) + self._failed_here + 1

    @property
    def first_at(self) -> float | None:
        """When its first attempt failed, seconds since 1970; None when this is the first one."""
        before = first_failed_at(self._delivered.headers)
        return self._first_at if before is None else before

    @property
    def body(self) -> bytes:
        """The body, as it came."""
        return self._delivered.body

    @property
    def headers(self) -> Mapping[str, object]:
        """Application headers, and those that begin with ``ka-``; shared, don't change them."""
        return self._delivered.headers

    @property
    def properties(self) -> Mapping[str, object]:
        """Message properties under AMQP's names; shared, don't change them."""
        return self._delivered.properties

    @property
    def reply_to(self) -> str | None:
        """The queue that waits for the reply; None when nobody asks for one."""
        return self._delivered.reply_to

    @property
    def correlation_id(self) -> str | None:
        """What tells the asker which request a reply is for."""
        return self._delivered.correlation_id

    @property
    def redelivered(self) -> bool:
        """Whether the broker may have delivered it before: then it may have been handled."""
        return self._delivered.redelivered

    @property
    def lost(self) -> bool:
        """Whether the session that it came over is gone: the broker delivers it again, whatever becomes of it here."""
        return self._delivered.stale

    @property
    def asked(self) -> bool:
        """Whether somebody waits for what the handler returns, or for what it raises."""
        return self._replies and self._delivered.reply_to is not None

    def payload_as(self, kind: type[T]) -> T:
        """``payload``, made into a ``kind`` as a handler's annotation would have it: ``payload_as(list[Order])``.

        Raises:
            PayloadError: it is not what ``kind`` says.
            FleetMistake: no payload can be a ``kind``.
        """
        return decode_as(kind, self.payload)

    async def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | None = None,
        exchange: str = "",
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        timeout: float = 30.0,
        **properties: Unpack[MessageProperties],
    ) -> str:
        """Publish because of this message, and wait for the broker's confirm: so it is safe before this one is acked.

        Arguments and errors are those of ``Client.publish``.  An error here is the handler's: raised on, it fails the
        attempt.  When the ack is lost afterwards this message comes again, and with it a second copy of what it
        published: give it a ``message_id`` made of ``message.id`` where that matters.
        """
        return await self._outlet.publish(
            queue,
            body,
            delay=delay,
            exchange=exchange,
            headers=headers,
            serializer=serializer,
            timeout=timeout,
            **properties,
        )

    def fail(self, error: Exception) -> None:
        """In a batch: this message failed, for this reason; the others are not concerned.

        ``Reject`` and ``Snooze`` mean what they mean when raised.  Where a handler gets one message, raise instead.
        """
        if not isinstance(error, Exception):
            raise TypeError(f"message.fail takes the exception that the message failed with, not {error!r:.80}")
        self.error = error
