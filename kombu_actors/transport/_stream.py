"""A connected socket, plain or TLS, as send and receive.

The plain path talks to the trio socket directly: one system call per chunk and nothing between.
"""

from __future__ import annotations

import mmap
import os
import posix
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from ..errors import BrokerUnreachable, HandshakeFailed
from ._tls import explain_tls

if TYPE_CHECKING:
    from .._values.tls_settings import TLSSettings

__all__ = ["ByteStream", "STREAM_ERRORS", "dial", "dial_unix"]

RECEIVE_SIZE: Final = 1024 * 1024
"""Some thousand small messages per system call: where a thousand consumers have one each in turn, several for each of
them, which then cost it one wake-up.  It takes some 10 ms to hand them over."""

STREAM_ERRORS: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What ``ByteStream`` raises when the connection is gone."""


class Duplicate(socket.socket):
    """A socket once more, under a number of its own; closed when nobody has it any more."""

    def __del__(self) -> None:
        self.close()


class ByteStream:
    """Bytes to and from one peer.  ``close`` is immediate and may be called at any time."""

    def __init__(self, sock: trio.socket.SocketType, tls: trio.SSLStream[trio.SocketStream] | None = None) -> None:
        self.socket = sock
        """trio's; for its address and options."""
        self.plain = tls is None
        """Whether bytes can leave at once; TLS takes none that way."""
        self._tls = tls
        # One place for what comes, not a new one each time, most of which is given back at once: that leaves the heap
        # in pieces, and a process grows by hundreds of bytes a message.  Private: a fork has its own.
        self._received = mmap.mmap(-1, RECEIVE_SIZE, flags=mmap.MAP_PRIVATE)
        self._decrypted: bytes | None = None
        self._duplicated = False

    async def send_all(self, data: bytes) -> None:
        """Send all of ``data``; cancellation may leave a part of it sent."""
        if self._tls is not None:
            await self._tls.send_all(data)
            return
        sent = await self.socket.send(data)
        with memoryview(data) as view:
            while sent < len(data):
                sent += await self.socket.send(view[sent:])

    def send_nowait(self, data: bytes) -> int:
        """Send what the kernel takes at once; returns how many bytes that was.  TLS takes none this way."""
        counts: list[int] = []
        self.send_counted(data, counts)
        return sum(counts)

    def send_counted(self, data: bytes, counts: list[int]) -> None:
        """``send_nowait`` that adds to ``counts`` how many bytes left.

        Writing and counting are one step, which no signal handler that raises can part.
        """
        descriptor = self.socket.fileno()
        if self._tls is not None or descriptor < 0:
            return
        try:
            counts.extend(map(posix.write, (descriptor,), (data,)))  # not os.write, which eventlet replaces
        except OSError:
            return  # full, or broken: then the writer finds out, and says so

    async def receive(self) -> bytes:
        """Wait for bytes; empty when the peer has closed."""
        while True:
            await self.wait_bytes()
            data = self.take()
            if data is not None:
                return data

    async def wait_bytes(self) -> None:
        """Wait until there is something to ``take``."""
        if self._tls is not None:
            self._decrypted = bytes(await self._tls.receive_some(RECEIVE_SIZE))
            return
        descriptor = self.socket.fileno()
        if descriptor >= 0:
            await trio.lowlevel.wait_readable(descriptor)
        if descriptor < 0 or self.socket.fileno() != descriptor:
            # Whoever was woken before us may have closed it, and its number may be another file's.
            raise trio.ClosedResourceError("the socket was closed")

    def take(self) -> bytes | None:
        """What has come; empty when the peer has closed, None when another reader has taken it meanwhile."""
        if self._tls is not None:
            data, self._decrypted = self._decrypted, None
            return data
        try:
            return self._received[: posix.readv(self.socket.fileno(), (self._received,))]
        except BlockingIOError:
            return None

    def duplicate(self) -> Duplicate | None:
        """The socket once more, for another thread to read from.

        None where only TLS can make sense of it, and where the process has no descriptor left.
        """
        if self._tls is not None or self.socket.fileno() < 0:
            return None
        try:
            made = Duplicate(self.socket.family, self.socket.type, fileno=os.dup(self.socket.fileno()))
        except OSError:
            return None
        self._duplicated = True
        made.setblocking(False)
        return made

    def close(self) -> None:
        """Close the socket; whoever waits for it wakes with an error."""
        if self._duplicated:
            with suppress(OSError):  # the peer was faster
                self.socket.shutdown(socket.SHUT_RDWR)  # of the duplicates, too
        self.socket.close()

    def limit_silence(self, seconds: float) -> None:
        """Let the kernel give up when sent bytes stay unacknowledged for ``seconds``; 0 for its default."""
        if hasattr(socket, "TCP_USER_TIMEOUT") and self._is_tcp:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))

    def keep_alive(self, wanted: bool, options: Mapping[int, int]) -> None:
        """Let the kernel probe an idle connection or not; ``options`` are TCP's (``TCP_KEEPIDLE``, ...) with values.

        Raises:
            OSError: the kernel knows no such option, or not with that value.
        """
        if self._is_tcp:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(wanted))
            for option, value in options.items():
                self.socket.setsockopt(socket.IPPROTO_TCP, option, value)

    @property
    def _is_tcp(self) -> bool:
        return self.socket.fileno() >= 0 and self.socket.family != socket.AF_UNIX


async def dial(host: str, port: int, tls: TLSSettings | None) -> ByteStream:
    """Connect, with TLS if there are settings for it; each host must show a certificate for its own name.

    Raises:
        BrokerUnreachable: nothing answers there.
        HandshakeFailed: what answers fails TLS, or its certificate fails the check.
    """
    where = f"{host}:{port}"
    try:
        tcp = await _connected(host, port)
    except (OSError, ValueError) as error:
        raise BrokerUnreachable(f"can't reach {where}: {_reason(error)}") from error
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return ByteStream(tcp.socket)
    try:
        stream = await _secured(tcp, tls, host, where)
    except BaseException:
        tcp.socket.close()
        raise
    return ByteStream(tcp.socket, stream)


async def _connected(host: str, port: int) -> trio.SocketStream:
    """trio has a race of all addresses that a name has; where there is one only, that would be a task for nothing."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        sock = trio.socket.socket(family)
        try:
            await sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)
    return await trio.open_tcp_stream(host, port)


async def dial_unix(path: str) -> ByteStream:
    """Connect to a Unix socket.

    Raises:
        BrokerUnreachable: nobody listens there, or we may not speak to it.
    """
    try:
        stream = await trio.open_unix_socket(path)
    except (OSError, ValueError) as error:
        raise BrokerUnreachable(f"can't reach {path}: {_reason(error)}") from error
    return ByteStream(stream.socket)


async def _secured(
    tcp: trio.SocketStream, tls: TLSSettings, host: str, where: str
) -> trio.SSLStream[trio.SocketStream]:
    name = tls.server_hostname or host
    try:
        context = tls.context()
    except (OSError, ValueError) as error:  # it was right when the connection was made: being renewed, perhaps
        raise HandshakeFailed(f"{where}: {error}") from error
    stream = trio.SSLStream(tcp, context, server_hostname=name, https_compatible=True)
    try:
        await stream.do_handshake()
    except (*STREAM_ERRORS, ssl.SSLError) as error:
        text = explain_tls(error, name) or f"the TLS handshake was cut short: {_reason(error)}"
        raise HandshakeFailed(f"{where}: {text}") from error
    return stream


def _reason(error: BaseException) -> str:
    """The operating system's word for it, out of what trio wraps it in."""
    cause = error.__cause__
    if isinstance(error, socket.gaierror):
        return f"the host name can't be resolved ({error.strerror})"
    if isinstance(cause, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_reason(each) for each in cause.exceptions))
    if isinstance(cause, OSError):
        return _reason(cause)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # trio repeats the address in its own text
    return str(error) or type(error).__name__
