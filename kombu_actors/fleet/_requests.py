"""Requests of a client: they go out with a number, replies come over one queue of the client's own and find who waits.

The queue keeps its name in every session, and outlives them: a reply that comes while the session is down waits in it.
It is durable for that (RabbitMQ 4 has no other queues that outlive their connection), and expires when its client was
killed and nobody reads it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import attrs
import trio

from .._logs import get_logger
from ..broker import Broker, Delivered, MessageProperties, QueueSpec
from ..errors import DeadlineExceeded, PublishUnknown
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected
from ..utils.uuid import uuid
from ._headers import ERROR, REASON
from ._publishing import encodable
from ._tracing import Tracing, publishing
from .errors import RemoteError

__all__ = ["Requests"]

logger = get_logger("kombu_actors.fleet")

EXPIRES = 300.0
"""Seconds that the queue for replies stays when nobody reads it: longer than an outage that requests wait out."""
GOODBYE = 0.5
"""Seconds for deleting it in the end; it expires by itself when the broker doesn't answer."""


@attrs.define(eq=False)
class _Call:
    """One request, until its reply has come."""

    answered: trio.Event = attrs.field(factory=trio.Event)
    reply: Delivered | None = None


@protected
class Requests:
    """The requests of one client, and the actor that reads their replies."""

    def __init__(self, broker: Broker, tracing: Tracing | None) -> None:
        self.late = 0
        """Replies that nobody waited for: their request was over by then, or they came twice."""
        self._broker = broker
        self._tracing = tracing
        self._queue = QueueSpec(name=f"ka.reply.{uuid()}", type="classic", expires=EXPIRES)
        self._wanted = trio.Event()
        """Set when the queue has been declared, by the first request."""
        self._declaring = trio.Lock()
        self._calls: dict[str, _Call] = {}
        """By number; each of them is a caller's, who is the bound."""

    @property
    def queue_name(self) -> str:
        """Where replies come: the same in all sessions."""
        return self._queue.name

    async def serve(self, ctx: ActorContext) -> None:
        """The actor: from the first request on, hand each reply to who waits for it."""
        ctx.ready()
        with ctx.until_stopping():
            await self._wanted.wait()
            # With acks: a reply that was on its way when the session was lost comes again.
            async with self._broker.subscribe(self._queue.name) as replies:
                async for reply in replies:
                    reply.ack()
                    self._take(reply)
        if self._wanted.is_set():
            with trio.move_on_after(GOODBYE):
                await self._broker.delete_queue(self._queue.name)

    async def ask(
        self,
        queue: str,
        body: object,
        *,
        timeout: float,
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        **properties: Unpack[MessageProperties],
    ) -> object:
        """Send a request and wait for its reply; see ``Client.request``."""
        plain = encodable(body, serializer)
        at = trio.current_time() + timeout
        number, call = uuid(), _Call()
        what = "the request was not sent"
        self._calls[number] = call
        try:
            with trio.move_on_at(at):
                await self._have_a_queue(timeout)
                what = "the broker has not confirmed the request"
                more: MessageProperties = {
                    "message_id": number,
                    "expiration": max(at - trio.current_time(), 0.0),
                    **properties,
                    "reply_to": self._queue.name,
                    "correlation_id": number,
                }
                await self._send(queue, plain, headers, serializer, at, more, call)
                what = "the request is in its queue, or somebody works on it"
                await call.answered.wait()
        finally:
            del self._calls[number]
        if call.reply is None:
            raise DeadlineExceeded(f"no reply to the request to queue {queue!r} within {timeout:g} s: {what}")
        return _content(call.reply)

    async def _have_a_queue(self, timeout: float) -> None:
        if not self._wanted.is_set():
            async with self._declaring:
                if not self._wanted.is_set():
                    await self._broker.declare(self._queue, timeout=timeout)
                    self._wanted.set()

    async def _send(
        self,
        queue: str,
        body: object,
        headers: Mapping[str, object] | None,
        serializer: str | None,
        at: float,
        properties: MessageProperties,
        call: _Call,
    ) -> None:
        try:
            number = properties.get("correlation_id")
            with publishing(self._tracing, queue, headers, number, number) as headers:
                await self._broker.publish(
                    body,
                    routing_key=queue,
                    serializer=serializer,
                    headers=headers,
                    mandatory=True,
                    timeout=max(at - trio.current_time(), 0.0),
                    **properties,
                )
        except (PublishUnknown, DeadlineExceeded) as error:
            if call.reply is None:
                raise DeadlineExceeded(f"the request to queue {queue!r} was not confirmed in time: {error}") from error

    def _take(self, reply: Delivered) -> None:
        call = self._calls.get(reply.correlation_id or "")
        if call is None or call.reply is not None:
            self.late += 1
            logger.info("a reply came that nobody waits for any more (%d so far)", self.late)
            return
        call.reply = reply
        call.answered.set()


def _content(reply: Delivered) -> object:
    """What a reply says; ``RemoteError`` when it is an error."""
    name = reply.headers.get(ERROR)
    if name is not None:
        raise RemoteError(str(name), str(reply.headers.get(REASON) or ""))
    return reply.payload
