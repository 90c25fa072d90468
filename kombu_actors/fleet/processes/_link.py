"""A socketpair between parent and worker, as a stream of records."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping
from typing import Generic, Self, TypeVar, cast

import trio

from ...supervisors._interrupts import protected
from ._frames import Decoder, encode

CHUNK = 64 * 1024
Heard = TypeVar("Heard", bound=Mapping[str, object])


class LinkLost(ConnectionError):
    """The other side is gone."""


@protected
class Link(Generic[Heard]):
    """One end; what the other end says is ``Heard``, for it is of this version.

    ``send`` is for any number of tasks, iterating for one.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._decoder = Decoder()
        self._records: deque[Heard] = deque()
        """Those of one chunk: bounded by what the other side says at once."""
        self._turn = trio.StrictFIFOLock()

    async def send(self, record: Mapping[str, object]) -> None:
        """Send a record, waiting while the other side doesn't read; raises ``LinkLost``.

        Cancelled in the midst of it, nothing more can be sent.
        """
        data = encode(record)
        async with self._turn:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkLost("the process at the other end is gone") from error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Heard:
        """The next record; ends when the other side is gone, be it by an end or by a reset.  Raises ``BadFrame``."""
        while not self._records:
            try:
                data = await self._stream.receive_some(CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise StopAsyncIteration
            self._records.extend(cast(list[Heard], self._decoder.feed(data)))
        return self._records.popleft()

    def close(self) -> None:
        """End it, at once."""
        self._stream.socket.close()
