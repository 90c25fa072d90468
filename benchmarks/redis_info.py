"""What a Redis server says of its own work."""

from __future__ import annotations

import socket
from typing import Self
from urllib.parse import urlsplit

import attrs


@attrs.frozen
class Work:
    """What the server had done by some moment, since it started."""

    commands: int
    """Commands carried out, those within scripts included."""
    cpu: float
    """Seconds of its processor."""

    @classmethod
    def now(cls, url: str) -> Self:
        """Ask.  That costs one command."""
        figures = info(url)
        cpu = float(figures["used_cpu_user"]) + float(figures["used_cpu_sys"])
        return cls(int(figures["total_commands_processed"]), cpu)

    def since(self, earlier: Work, messages: int) -> dict[str, float]:
        """Per message: commands, and microseconds of the server's processor."""
        return {
            "commands": (self.commands - earlier.commands) / messages,
            "server": (self.cpu - earlier.cpu) / messages * 1e6,
        }


def info(url: str) -> dict[str, str]:
    """``INFO``, as a dict."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), 5) as connection:
        connection.sendall(b"INFO all\r\nQUIT\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return dict(line.split(":", 1) for line in answer.decode().splitlines() if line[:1].isalpha() and ":" in line)
