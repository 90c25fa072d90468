"""The part of ``Broker`` that publishes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Unpack

import trio

from ..actors.channel import ChannelActor
from ..actors.connection import ConnectionActor
from ..protocols.ledger import Entry
from ..supervisors._interrupts import protected
from .batch import Batch
from .block import CALL_TIMEOUT, Block
from .channels import SharedChannel
from .delivered import Delivered, Terms
from .entries import Letter, MessageProperties, make_entry
from .requests import Requests


@protected
class Publications:
    """The calls that publish, over one channel."""

    _actor: ConnectionActor
    _block: Block
    _publishing: SharedChannel
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
        await self._send(make_entry(self._actor, body, letter), timeout)

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
        channel = self._publishing.open or await self._open_channel(timeout)
        channel.check_obstacle()
        make = partial(make_entry, self._actor, letter=letter)
        return await Batch(channel.publisher, make, timeout).publish(bodies)

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
        encoding = (serializer, content_type, content_encoding)
        terms = Terms.of(accept, no_ack=True)
        at = trio.current_time() + timeout

        def make(reply_to: str, number: str) -> Entry:
            answered: MessageProperties = {"reply_to": reply_to, "correlation_id": number}
            alive: MessageProperties = {"expiration": max(at - trio.current_time(), 0.0)}
            more: MessageProperties = {**alive, **properties, **answered}
            return make_entry(self._actor, body, Letter(exchange, routing_key, *encoding, headers, False, True, more))

        async def send(entry: Entry) -> None:
            await self._send(entry, max(at - trio.current_time(), 0.0))

        ask = partial(self._requests.ask, make, send, terms)
        return await self._block.call(f"the request to {exchange or routing_key!r}", timeout, ask)

    async def _send(self, entry: Entry, timeout: float) -> None:
        channel = self._publishing.open
        if channel is None:
            at = trio.current_time() + timeout
            channel = await self._open_channel(timeout)
            timeout = max(at - trio.current_time(), 0.0)
        channel.check_obstacle()
        await channel.publisher.send(entry, timeout)

    async def _open_channel(self, timeout: float) -> ChannelActor:
        return await self._block.call("opening a channel to publish", timeout, self._publishing.get)
