"""The producing half of a fleet for everybody who blocks: Django, Flask, scripts, threads.

One client, made once, serves all threads of the process.  Its connection lives in the runtime's thread, as those of
``kombu_actors.Connection`` do; it is made when it is first needed, and anew in a forked child.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

import trio

from .._bridge import exiting
from .._bridge.forking import SharedLock, start_afresh_after_fork
from .._bridge.leases import lease, release
from .._bridge.portal import check_interpreter
from ..broker import MessageProperties
from ..errors import ConnectionClosed, DeadlineExceeded, RuntimeStopped
from ._address import Address
from ._payloads import decode_as
from ._postponing import PUBLISH_TIMEOUT
from ._publishing import encodable
from .client import REQUEST_TIMEOUT, Client, open_client

__all__ = ["SyncClient", "open_sync_client"]

T = TypeVar("T")
logger = logging.getLogger("kombu_actors.fleet")

GOODBYE = 4.0
"""Seconds for the end of a connection: the actor for replies has 1, the connection's own goodbye 2."""


def open_sync_client(address: Address) -> SyncClient:
    """A client for threads; it connects when it is entered, or first used."""
    return SyncClient(address)


class _Stay:
    """One run of a client in the runtime."""

    def __init__(self, address: Address) -> None:
        check_interpreter()
        self.client: Client | None = None
        self._pid = os.getpid()
        self._address = address
        self._failure: BaseException | None = None
        self._settled = trio.Event()
        """Set when it is known whether it could connect."""
        self._leave = trio.Event()
        self._over = trio.Event()
        self.portal = lease(self)
        _stays.add(self)

    # Any thread

    @property
    def usable(self) -> bool:
        """Whether calls can be made over it."""
        return self.client is not None and not self.portal.ended and self._pid == os.getpid()

    def begin(self) -> None:
        """Connect; raises as ``open_client``."""
        self.portal.call(self._start, timeout=None)

    def call(self, fn: Callable[[Client], Awaitable[T]]) -> T:
        """Await ``fn(client)`` in the runtime; its deadline is its own."""
        result: T = self.portal.call(self._make, fn, timeout=None)
        return result

    def end(self) -> None:
        """Disconnect, give the runtime back, and wait for both."""
        self.abandon()
        try:
            self.portal.call(self._over.wait, timeout=GOODBYE)
        except (RuntimeStopped, DeadlineExceeded) as error:
            logger.debug("nobody heard of the end of the client's connection: %r", error)
        release(self)
        self.portal.join()

    def abandon(self) -> None:
        """Have it disconnected, without waiting; then the runtime is given back."""
        if self._pid != os.getpid():
            return
        try:
            self.portal.post(self._leave.set)
        except RuntimeStopped:
            release(self, wait=False)

    # The runtime

    async def _start(self) -> None:
        self.portal.spawn(self._run)
        await self._settled.wait()
        if self.client is None:
            raise self._failure or ConnectionClosed("the client was closed while it connected")

    async def _run(self) -> None:
        try:
            async with open_client(self._address) as client:
                self.client = client
                self._settled.set()
                await self._leave.wait()
        except Exception as error:  # whatever it is, it ends this client and no other; who calls is told
            self._failure = error
        finally:
            self.client = None
            self._settled.set()
            self._over.set()
            release(self, wait=False)

    async def _make(self, fn: Callable[[Client], Awaitable[T]]) -> T:
        if self.client is None:
            raise self._failure or ConnectionClosed("the client was closed before this call began")
        return await fn(self.client)


_stays: weakref.WeakSet[_Stay] = weakref.WeakSet()


class SyncClient:
    """``Client`` for threads.  Get it from ``Fleet.open_sync``.

    Make one for the process, at import if you like, and use it from any thread, forked children included: nothing is
    connected before ``with`` or the first call.  Each call blocks its thread until the broker has confirmed, within its
    own ``timeout``.  ``close`` it, or leave its ``with`` block; at the end of the process that is done by itself.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._opening = SharedLock()
        self._stay: _Stay | None = None
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
                headers=headers,
                serializer=serializer,
                timeout=timeout,
                **properties,
            )

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
                queue, plain, timeout=timeout, headers=headers, serializer=serializer, **properties
            )

        answer = self._connected().call(request)
        return answer if reply is None else decode_as(reply, answer)

    def _connected(self) -> _Stay:
        stay = self._stay
        if stay is not None and stay.usable:
            return stay
        with self._opening.held:
            stay = self._stay
            if stay is not None and stay.usable:
                return stay
            if self._closed:
                raise ConnectionClosed("this client was closed: make another one with fleet.open_sync()")
            stay = _Stay(self._address)
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


def _end_at_exit() -> None:
    """What was published is confirmed; this says goodbye, and takes the queues for replies away."""
    for stay in list(_stays):
        if stay.usable:
            stay.end()


exiting.drains.append(_end_at_exit)
