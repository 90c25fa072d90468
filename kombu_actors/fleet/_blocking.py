"""The producing half of a fleet for everybody who blocks: Django, Flask, scripts, threads.

One client, made once, serves all threads of the process.  Its connection lives in the runtime's thread, as those of
``kombu_actors.Connection`` do; it is made when it is first needed, and anew in a forked child.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

from .._bridge.forking import SharedLock, start_afresh_after_fork
from .._bridge.stay import Stay
from ..broker import MessageProperties
from ..errors import ConnectionClosed
from ..supervisors import ChildView
from ..utils.uuid import uuid
from ._address import Address
from ._payloads import decode_as
from ._postponing import PUBLISH_TIMEOUT
from ._publishing import encodable
from ._tracing import Tracing, destination, publishing
from .client import REQUEST_TIMEOUT, Client, open_client

__all__ = ["SyncClient", "open_sync_client"]

T = TypeVar("T")

GOODBYE = 4.0
"""Seconds for the end of a connection: the actor for replies has 1, the connection's own goodbye 2."""


def open_sync_client(address: Address, tracing: Tracing | None = None) -> SyncClient:
    """A client for threads; it connects when it is entered, or first used."""
    return SyncClient(address, tracing)


class SyncClient:
    """``Client`` for threads.  Get it from ``Fleet.open_sync``.

    Make one for the process, at import if you like, and use it from any thread, forked children included: nothing is
    connected before ``with`` or the first call.  Each call blocks its thread until the broker has confirmed, within its
    own ``timeout``.  ``close`` it, or leave its ``with`` block; at the end of the process that is done by itself.
    """

    def __init__(self, address: Address, tracing: Tracing | None = None) -> None:
        self._address = address
        self._tracing = tracing  # here, and not in the runtime: a context is its thread's
        self._opening = SharedLock()
        self._stay: Stay[Client] | None = None
        self._closed = False
        self._finalizer: weakref.finalize[..., SyncClient] | None = None
        start_afresh_after_fork(self)

    def __enter__(self) -> Self:
        self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect.  Calls under way in other threads fail with ``ConnectionClosed``, and so do later ones."""
        with self._opening.held:
            self._closed = True
            stay, self._stay = self._stay, None
            if stay is not None:
                stay.end()

    def start_afresh(self) -> None:
        """In a forked child: the connection is the parent's."""
        self._stay = None

    def publish(
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
        """Publish one message, wait until the broker has confirmed it, and return its id; all as ``Client.publish``.

        An interrupt (Ctrl-C) leaves open whether it was published.
        """
        plain = encodable(body, serializer)  # here: it may be slow, or the user's own code

        async def publish(client: Client) -> str:
            return await client.publish(
                queue,
                plain,
                delay=delay,
                exchange=exchange,
                headers=given,
                serializer=serializer,
                timeout=timeout,
                **properties,
            )

        if not properties.get("message_id"):
            properties["message_id"] = uuid()
        id, asked = properties["message_id"], properties.get("correlation_id")
        with publishing(self._tracing, destination(queue, exchange), headers, id, asked) as given:
            return self._connected().call(publish)

    @overload
    def request(
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
    def request(
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

    def request(
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
        """Publish a request, wait for its reply, and return what the handler returned; all as ``Client.request``."""
        plain = encodable(body, serializer)

        async def request(client: Client) -> object:
            return await client.request(
                queue, plain, timeout=timeout, headers=given, serializer=serializer, **properties
            )

        with publishing(self._tracing, queue, headers, None, None) as given:
            answer = self._connected().call(request)
        return answer if reply is None else decode_as(reply, answer)

    def purge(self, queue: str, *, dry_run: bool = False, timeout: float = PUBLISH_TIMEOUT) -> int:
        """Throw away, for good, the messages that wait in a queue; returns how many; all as ``Client.purge``.

        An interrupt (Ctrl-C) leaves open whether it was done.
        """

        async def purge(client: Client) -> int:
            return await client.purge(queue, dry_run=dry_run, timeout=timeout)

        return self._connected().call(purge)

    @property
    def late_replies(self) -> int:
        """How many replies came after their request had ended, or twice, over the connection that there is now."""

        async def count(client: Client) -> int:
            return client.late_replies

        return self._connected().call(count)

    def snapshot(self) -> ChildView:
        """The supervision tree of its connection, as it is now."""

        async def look(client: Client) -> ChildView:
            return client.snapshot()

        return self._connected().call(look)

    def _connected(self) -> Stay[Client]:
        stay = self._stay
        if stay is not None and stay.usable:
            return stay
        with self._opening.held:
            stay = self._stay
            if stay is not None and stay.usable:
                return stay
            if self._closed:
                raise ConnectionClosed("this client was closed: make another one with fleet.open_sync()")
            stay = Stay(partial(open_client, self._address), GOODBYE)
            try:
                stay.begin()
            except Exception:
                stay.end()
                raise
            except BaseException:  # an interrupt waits for nothing
                stay.abandon()
                raise
            if self._finalizer is not None:
                self._finalizer.detach()
            self._finalizer = weakref.finalize(self, stay.abandon)
            self._finalizer.atexit = False  # the process has its own, which waits
            self._stay = stay
            return stay
