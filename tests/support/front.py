"""What stands before a Redis server in a managed service: it lets some commands be something else."""

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


class RedisFront:
    """A proxy that knows commands.  The server answers what it is asked instead, so replies keep their order."""

    def __init__(self, target_port: int, substitute: Substitute) -> None:
        self.port = free_port()
        self.substituted = 0
        """How many commands were something else."""
        self._target_port = target_port
        self._substitute = substitute
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
        thread = threading.Thread(target=run, args=args, name=f"RedisFront:{self.port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
                self._sockets |= {client, server}
                self._start(self._pass_up, client, server)
                self._start(self._pass_down, server, client)

    def _pass_up(self, client: socket.socket, server: socket.socket) -> None:
        commands = hiredis.Reader()
        with contextlib.suppress(OSError):
            while received := client.recv(CHUNK):
                commands.feed(received)
                while (command := commands.gets()) is not False:
                    other = self._substitute(command)
                    self.substituted += other is not None
                    server.sendall(hiredis.pack_command(tuple(command) if other is None else other))
        self._shut(server)

    def _pass_down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := server.recv(CHUNK):
                client.sendall(received)
        self._shut(client)

    def _shut(self, each: socket.socket) -> None:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def refusing(*names: str, saying: str) -> Substitute:
    """Refuse commands by name (``CLIENT``, ``CLIENT LIST``) with an error; ``{}`` in it is the command."""

    def substitute(command: list[bytes]) -> tuple[Any, ...] | None:
        spelled = b" ".join(command[:2]).decode(errors="replace").upper()
        for name in names:
            if spelled == name or spelled.startswith(f"{name} "):
                return "EVAL", "return redis.error_reply(ARGV[1])", 0, saying.format(name)
        return None

    return substitute
