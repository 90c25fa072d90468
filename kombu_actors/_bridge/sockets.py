"""The runtime's sockets, so that a forked child can close its copies of them."""

from __future__ import annotations

import os
import socket
import weakref

import trio

from .forking import start_afresh_after_fork


class OwnSockets(trio.abc.SocketFactory):
    """Makes sockets and remembers them, those that still dial included.

    Copies left open in a child would keep the parent's connections half-alive after the parent
    has closed them.
    """

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        start_afresh_after_fork(self)

    def socket(
        self,
        family: socket.AddressFamily | int = socket.AF_INET,
        type: socket.SocketKind | int = socket.SOCK_STREAM,
        proto: int = 0,
    ) -> trio.socket.SocketType:
        """A new trio socket."""
        made = socket.socket(family, type, proto)
        self._sockets.add(made)
        return trio.socket.from_stdlib_socket(made)

    def close(self) -> None:
        """Close what is left of a runtime that died: the peers must hear of it."""
        for left in list(self._sockets):
            left.close()

    def start_afresh(self) -> None:
        """Close this process's copies under TLS's and trio's feet: nothing is sent, the parent's stay open."""
        for inherited in list(self._sockets):
            number = inherited.detach()  # else the object would close whoever gets the number next
            if number >= 0:
                os.close(number)
