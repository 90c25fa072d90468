"""The producing half of a fleet, for trio programs: ``async with fleet.open() as client``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TypeVar, Unpack, overload

from ..broker import Broker, MessageProperties
from ..supervisors import Backoff, ChildSpec, ChildView, RestartLimit, SupervisorSpec, open_supervisor
from ..supervisors._interrupts import guarded, protected
from ._address import Address
from ._payloads import decode_as
from ._postponing import PUBLISH_TIMEOUT, Postponer
from ._publishes import Publishes
from ._publishing import Publisher
from ._requests import Requests
from ._tracing import TracedOutlet, Tracing
from .message import Outlet

__all__ = ["Client", "open_client"]

T = TypeVar("T")
REQUEST_TIMEOUT = 30.0
"""Seconds for a reply: longer than a failover takes, so that a request outlives one."""
STOP_DEADLINE = 1.0
"""Seconds for the end of the actor that reads replies."""
AGAIN = Backoff(maximum=3.0)
"""The waits of that actor: as a connection's, for it fails of what the broker says."""


@guarded
async def open_client(address: Address, tracing: Tracing | None = None) -> AsyncIterator[Client]:
    """Connect, and have a client while the block runs.

    Raises as ``open_broker``, which it stands on: what was published is confirmed, and what was asked is answered,
    over any fault that ends.
    """
    async with address.open("client") as broker:
        requests = Requests(broker, tracing)
        replies = ChildSpec(id="replies", start=requests.serve)
        # Without a limit: what it fails of is told to those who ask, by their deadlines; publishing goes on.
        tree = SupervisorSpec(id="client", limit=RestartLimit(max_restarts=None), backoff=AGAIN, children=(replies,))
        async with open_supervisor(tree, deadline=STOP_DEADLINE):
            yield Client(broker, requests, tracing)


@protected
class Client:
    """Publishes to the queues of a fleet, and asks its handlers.  Get it from ``Fleet.open``.

    It may be used by many tasks at a time.
    """

    def __init__(self, broker: Broker, requests: Requests, tracing: Tracing | None) -> None:
        self._broker = broker
        self._requests = requests
        publisher = Publisher(broker, Postponer(broker), Publishes())
        self._publisher: Outlet = publisher if tracing is None else TracedOutlet(publisher, tracing)

    async def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | None = None,
        exchange: str = "",
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        timeout: float = PUBLISH_TIMEOUT,
        **properties: Unpack[MessageProperties],
    ) -> str:
        """Publish one message, wait until the broker has confirmed it, and return its id.

        Args:
            queue: where it goes; with ``exchange``, the routing key.
            body: JSON by default, of anything that a handler's annotation may name: builtins, dataclasses, attrs,
                msgspec and pydantic objects.  Bytes and text stay what they are.
            delay: seconds that it waits before it comes to the queue, up to 30 days; kept to two digits (5 %).  It
                survives restarts meanwhile.  None, or 0: at once.
            exchange: of your own; then nobody has to be listening.  The default one leads to the queue of that name.
            headers: of your own, for the handler.
            serializer: one of kombu's, which the consumer must accept; JSON when None.
            timeout: seconds for all of it; 30 are longer than a failover takes.
            properties: ``message_id`` (made up when absent: the id), ``priority``, ``expiration`` (seconds; not with a
                delay), ``correlation_id``, ``reply_to``, ``timestamp``, ``type``, ``user_id``, ``app_id``.

        Raises:
            PublishReturned: there is no such queue; ``NotFound`` with a delay.
            FleetMistake: the delay is no number of seconds up to 30 days, or is for an exchange.
            EncodeError, ValueError: the message can't be sent as it is.
            PublishUnknown, DeadlineExceeded, ConnectionBlocked: not confirmed in time; the first may be there all the
                same: publish it again with the same ``message_id``.
            PublishRefused, NotFound, AccessRefused: the broker would not have it.

        Over a lost session it is sent again, so it may come twice, with the same id.  Cancellation leaves open whether
        it was published.
        """
        return await self._publisher.publish(
            queue,
            body,
            delay=delay,
            exchange=exchange,
            headers=headers,
            serializer=serializer,
            timeout=timeout,
            **properties,
        )

    @overload
    async def request(
        self,
        queue: str,
        body: object,
        *,
        timeout: float = ...,
        headers: Mapping[str, object] | None = ...,
        serializer: str | None = ...,
        **properties: Unpack[MessageProperties],
    ) -> object: ...
    @overload
    async def request(
        self,
        queue: str,
        body: object,
        *,
        reply: type[T],
        timeout: float = ...,
        headers: Mapping[str, object] | None = ...,
        serializer: str | None = ...,
        **properties: Unpack[MessageProperties],
    ) -> T: ...

    async def request(
        self,
        queue: str,
        body: object,
        *,
        reply: type[T] | None = None,
        timeout: float = REQUEST_TIMEOUT,
        headers: Mapping[str, object] | None = None,
        serializer: str | None = None,
        **properties: Unpack[MessageProperties],
    ) -> object:
        """Publish a request, wait for its reply, and return what the handler returned.

        The request is a persistent message that expires with its timeout; its reply comes over a queue of this client's
        own.  Both outlive lost sessions; the request, too, a restart of the broker.  After a fault it may be handled
        twice, as any message; the first reply counts.

        Args:
            reply: the type that the reply is to have, decoded as a handler's payload is; as JSON has it when None.
            timeout: seconds until the reply has come.
            others: as for ``publish``.

        Raises:
            RemoteError: the handler failed; by its name and text.  It is not tried again: that is up to the caller.
            DeadlineExceeded: no reply in time (a ``TimeoutError``); its text says how far the request has come.
            PublishReturned: there is no such queue: nobody serves.
            PayloadError, DecodeError: the reply is not of the type ``reply``, or can't be decoded at all.
            others: as ``publish``.

        Cancellation gives up on the reply, which is dropped when it comes.
        """
        answer = await self._requests.ask(
            queue, body, timeout=timeout, headers=headers, serializer=serializer, **properties
        )
        return answer if reply is None else decode_as(reply, answer)

    async def purge(self, queue: str, *, dry_run: bool = False, timeout: float = PUBLISH_TIMEOUT) -> int:
        """Throw away, for good, the messages that wait in a queue; returns how many.

        Those that consumers have in hand stay, and those that wait for their next attempt.

        Args:
            queue: any, that of dead letters, too.
            dry_run: only count them.
            timeout: seconds for the broker's answer.

        Raises:
            NotFound: there is no such queue.
            DeadlineExceeded: no answer in time.

        Cancellation leaves open whether it was done.
        """
        if dry_run:
            return (await self._broker.inspect_queue(queue, timeout=timeout)).messages
        return await self._broker.purge_queue(queue, timeout=timeout)

    @property
    def late_replies(self) -> int:
        """How many replies came after their request had ended, or twice."""
        return self._requests.late

    def snapshot(self) -> ChildView:
        """The supervision tree of its connection, as it is now."""
        return self._broker.snapshot()
