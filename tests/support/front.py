"""Proxies that know what is said: fronts of managed services, which let some commands be something else, and so on."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import hiredis

from .processes import free_port

CHUNK = 65536
Substitute = Callable[[list[bytes]], tuple[Any, ...] | None]
"""Takes a command; returns the one that the server is asked in its place, or None for no change."""


class Front:
    """A proxy with a thread for each direction of each connection, where others look at what passes."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._door = socket.create_server(("127.0.0.1", self.port))
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shut(self._door)
        for each in tuple(self._sockets):
            self._shut(each)
        for thread in self._threads:
            thread.join()
        for each in (self._door, *self._sockets):
            each.close()

    def _start(self, run: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=run, args=args, name=f"Front:{self.port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._sockets |= {client, server}
                self._start(self._pass, self.pass_up, client, server)
                self._start(self._pass, self.pass_down, server, client)

    def _pass(self, how: Callable[..., None], source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            how(source, sink)
        self._shut(sink)

    def pass_up(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the client says, until it says no more."""
        while received := client.recv(CHUNK):
            server.sendall(received)

    def pass_down(self, server: socket.socket, client: socket.socket) -> None:
        """Pass on what the server says, until it says no more."""
        while received := server.recv(CHUNK):
            client.sendall(received)

    def _shut(self, each: socket.socket) -> None:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


class RedisFront(Front):
    """Knows commands.  The server answers what it is asked instead, so replies keep their order."""

    def __init__(self, target_port: int, substitute: Substitute) -> None:
        self.substituted = 0
        """How many commands were something else."""
        self._substitute = substitute
        super().__init__(target_port)

    def pass_up(self, client: socket.socket, server: socket.socket) -> None:
        """Pass commands on, or others in their place."""
        commands = hiredis.Reader()
        while received := client.recv(CHUNK):
            commands.feed(received)
            while (command := commands.gets()) is not False:
                other = self._substitute(command)
                self.substituted += other is not None
                server.sendall(hiredis.pack_command(tuple(command) if other is None else other))


def refusing(*names: str, saying: str) -> Substitute:
    """Refuse commands by name (``CLIENT``, ``CLIENT LIST``) with an error; ``{}`` in it is the command."""

    def substitute(command: list[bytes]) -> tuple[Any, ...] | None:
        spelled = b" ".join(command[:2]).decode(errors="replace").upper()
        for name in names:
            if spelled == name or spelled.startswith(f"{name} "):
                return "EVAL", "return redis.error_reply(ARGV[1])", 0, saying.format(name)
        return None

    return substitute
