"""The part of ``Broker`` that publishes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Unpack

from ..actors.connection import ConnectionActor
from ..protocols.ledger import Entry
from ..supervisors._interrupts import protected
from .delivered import Delivered, Terms
from .entries import Letter, MessageProperties, encode, make_entry
from .place import CALL_TIMEOUT, Place, Publishing
from .requests import Requests


@protected
class Publications:
    """The calls that publish, over one channel."""

    _actor: ConnectionActor
    _place: Place
    _publishing: Publishing
    _requests: Requests

    async def publish(
        self,
        body: object,
        *,
        routing_key: str = "",
        exchange: str = "",
        serializer: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, object] | None = None,
        persistent: bool = True,
        mandatory: bool = False,
        timeout: float = CALL_TIMEOUT,
        **properties: Unpack[MessageProperties],
    ) -> None:
        """Publish one message and wait until the broker has confirmed it.

        The body is serialized as JSON unless ``serializer`` or ``content_type`` says otherwise
        (with ``content_type`` it must be bytes or text already).  Over a lost session the publish is
        sent again, the same bytes, before anything newer.

        Args:
            headers: of your own, for the receiver and for headers exchanges.
            persistent: the broker writes it to disk, in a durable queue.
            mandatory: an error when no queue gets it.
            properties: of the message: ``priority``, ``expiration`` (seconds), ``message_id``, ``correlation_id``,
                ``reply_to``, ``timestamp``, ``type``, ``user_id``, ``app_id``.

        Raises:
            EncodeError, ValueError: the message can't be sent as it is, or not within what the broker has
                agreed to (``frame_max`` bounds its properties and headers); nothing was sent.
            ChannelLimitExceeded: the connection has no channel left to publish over.
            PublishReturned: mandatory, and no queue is bound.
            PublishRefused: the broker answered ``basic.nack``.
            NotFound, AccessRefused: no such exchange, or no right to write to it.
            PublishUnknown: no answer within ``timeout`` seconds; the broker may have it.
            DeadlineExceeded, ConnectionBlocked: no answer, and it was never written.
            ConnectionClosed: the block of ``open_broker`` was left, and it was never written.

        Cancellation leaves the outcome unknown; the message is not sent again afterwards.
        """
        encoding = (serializer, content_type, content_encoding)
        letter = Letter(exchange, routing_key, *encoding, headers, persistent, mandatory, properties)
        await self._publishing.send(make_entry(self._actor, body, letter), timeout)

    async def publish_many(
        self,
        bodies: Iterable[object],
        *,
        routing_key: str = "",
        exchange: str = "",
        serializer: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, object] | None = None,
        persistent: bool = True,
        mandatory: bool = False,
        timeout: float = CALL_TIMEOUT,
        **properties: Unpack[MessageProperties],
    ) -> int:
        """Publish messages in order, many at a time under way; return how many when all of them are confirmed.

        As fast as many tasks with a ``publish`` each, without the tasks.  ``bodies`` is asked for the next one when
        there is room; a generator need not fit into memory.  All else is as for ``publish``, and the same for all.

        Args:
            timeout: seconds for each message, from when it is sent (or waits to be).

        Raises:
            PublishErrors: some were not confirmed.  Its ``outcomes`` tell what became of each, in order; after the
                first failure nothing more is sent.
            ChannelLimitExceeded, ConnectionClosed, DeadlineExceeded: none was sent.
            whatever ``bodies`` raises: those under way have unknown outcomes.

        Cancellation leaves the outcomes of those under way unknown; nothing is sent again afterwards.
        """
        encoding = (serializer, content_type, content_encoding)
        letter = Letter(exchange, routing_key, *encoding, headers, persistent, mandatory, properties)
        return await self._publishing.send_all(bodies, partial(make_entry, self._actor, letter=letter), timeout)

    async def request(
        self,
        body: object,
        *,
        routing_key: str = "",
        exchange: str = "",
        serializer: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, object] | None = None,
        accept: Collection[str] | None = None,
        timeout: float = CALL_TIMEOUT,
        **properties: Unpack[MessageProperties],
    ) -> Delivered:
        """Publish a request and wait for its reply.

        Whoever serves it publishes the reply to ``message.reply_to`` with ``message.correlation_id``; both are set
        here.  Nobody works on what nobody waits for: the request expires with its ``timeout`` where it still waits in
        a queue.  It is not written to disk.  After a fault it may be delivered twice, as all messages.

        Args:
            accept: as for ``subscribe``, for the reply.
            timeout: seconds until the reply has come.

        Raises:
            DeadlineExceeded: no reply in time.
            PublishReturned: there is no such queue: nobody serves.
            ConnectionLost: the session ended meanwhile, and the reply with it; whether it was worked on is unknown.
            others: as ``publish``.

        Cancellation drops the reply when it comes.
        """
        encoded = encode(body, serializer, content_type, content_encoding)
        encoding = (None, encoded.content_type, encoded.content_encoding)
        terms = Terms.of(accept, no_ack=True)

        def make(reply_to: str, number: str, seconds: float) -> Entry:
            answered: MessageProperties = {"reply_to": reply_to, "correlation_id": number}
            alive: MessageProperties = {"expiration": seconds}
            more: MessageProperties = {**alive, **properties, **answered}
            letter = Letter(exchange, routing_key, *encoding, headers, False, True, more)
            return make_entry(self._actor, encoded.data, letter)

        ask = partial(self._requests.ask, make, timeout, terms)
        return await self._place.call(f"the request to {exchange or routing_key!r}", timeout, ask)
