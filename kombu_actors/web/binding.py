"""Where to listen: a port of this machine, a host and port, or a unix socket."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import attrs

from ..hosting.unix_sockets import bind

__all__ = ["Binding", "parse_binding"]

LOOPBACK = "127.0.0.1"
"""Where a port alone is: what is served tells of handlers and errors, and is for this machine unless said otherwise."""
BACKLOG = 64
"""Connections that wait to be accepted: probes, a scraper and some people."""
UNIX = "unix:"


@attrs.frozen
class Binding:
    """A place to listen at: a host and a port, or the path of a unix socket."""

    host: str = LOOPBACK
    port: int = 0
    """0: any that is free."""
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """A socket that listens there; the one of a unix path is its owner's alone (mode 0600).

        Raises ``OSError`` with a text that says what is wrong with the place.
        """
        try:
            return self._listen_unix(self.path) if self.path is not None else self._listen_tcp()
        except OSError as error:
            raise OSError(f"nothing can be served at {self}: {_why(error)}") from error

    def _listen_tcp(self) -> socket.socket:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _listen_unix(self, path: Path) -> socket.socket:
        listener = bind(str(path))
        try:
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def url(self, listener: socket.socket) -> str:
        """Where the socket is reached."""
        if self.path is not None:
            return str(self)
        return f"http://{attrs.evolve(self, port=listener.getsockname()[1])}"


def parse_binding(text: str) -> Binding:
    """``8080`` (on this machine only), ``0.0.0.0:8080``, ``[::]:8080`` or ``unix:/run/shop.http``.

    Raises ``ValueError``.
    """
    if text.startswith(UNIX):
        if not text.removeprefix(UNIX):
            raise ValueError(f"{text!r} names no path")
        return Binding(path=Path(text.removeprefix(UNIX)))
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no place to listen at: say HOST:PORT, a PORT of this machine, or unix:PATH")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets, [{host}]:{port}")
    return Binding(host.strip("[]") or LOOPBACK, int(port))


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there already; choose another port, or end that program"
    if error.errno == errno.EACCES:
        return "this user may not listen there (ports below 1024 are root's)"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    return error.strerror or str(error)
