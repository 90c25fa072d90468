"""Fronts that keep messages from consumers who were there first, and let all else pass: alive, but deaf.

What ends it is how much the client makes anew: the subscription, the channel, the session; or nothing, until ``heal``.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any, Literal

from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS

from .front import CHUNK, Front, RedisFront

__all__ = ["DeafAMQP", "DeafRedis", "Until"]

Until = Literal["consumer", "channel", "session", "heal"]
_CONSUME, _DELIVER, _OPEN = (60, 20), (60, 60), (20, 10)
_METHOD, _END = 1, b"\xce"


class DeafAMQP(Front):
    """Swallows ``basic.deliver`` with its content."""

    def __init__(self, target_port: int) -> None:
        self._lock = threading.Lock()
        self._until: Until | None = None
        self._deaf: set[object] = set()
        """Connections that are, but for the channels in ``_well``."""
        self._here: set[object] = set()
        self._well: set[tuple[object, int]] = set()
        self.swallowed = 0
        super().__init__(target_port)

    def deafen(self, until: Until) -> None:
        """From now on; ``heal`` ends it for all."""
        with self._lock:
            self._until, self._deaf = until, set(self._here)
            self._well.clear()

    def heal(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._until = None
            self._deaf.clear()

    def pass_up(self, client: socket.socket, server: socket.socket) -> None:
        """See what is made anew."""
        with self._lock:
            self._here.add(client)
            if self._until == "heal":
                self._deaf.add(client)
        frames = _Frames(skip=8)  # the protocol's header
        while received := client.recv(CHUNK):
            for channel, method, _ in frames.feed(received):
                anew = {"consumer": method == _CONSUME, "channel": method == _OPEN}
                with self._lock:
                    if self._until is not None and anew.get(self._until):
                        self._well.add((client, channel))
            server.sendall(received)

    def pass_down(self, server: socket.socket, client: socket.socket) -> None:
        """Leave deliveries out."""
        frames, swallowing = _Frames(), set[int]()
        while received := server.recv(CHUNK):
            passed = bytearray()
            for channel, method, frame in frames.feed(received):
                if method is not None:
                    swallowing.discard(channel)
                    with self._lock:
                        deaf = client in self._deaf and (client, channel) not in self._well
                    if method == _DELIVER and deaf:
                        swallowing.add(channel)
                        self.swallowed += 1
                if channel not in swallowing:
                    passed += frame
            client.sendall(passed)


class _Frames:
    """(channel, method or None, the whole frame) of a stream."""

    def __init__(self, skip: int = 0) -> None:
        self._held = b""
        self._skip = skip

    def feed(self, data: bytes) -> list[tuple[int, tuple[int, int] | None, bytes]]:
        self._held += data
        if self._skip and len(self._held) >= self._skip:
            self._held, self._skip = self._held[self._skip :], 0
        found: list[tuple[int, tuple[int, int] | None, bytes]] = []
        while not self._skip and len(self._held) >= 7:
            kind, channel, size = struct.unpack(">BHI", self._held[:7])
            if len(self._held) < size + 8:
                break
            frame, self._held = self._held[: size + 8], self._held[size + 8 :]
            assert frame[-1:] == _END
            method = struct.unpack(">HH", frame[7:11]) if kind == _METHOD else None
            found.append((channel, method, frame))
        return found


class DeafRedis(RedisFront):
    """Answers claims as if there were nothing, and nobody to be woken."""

    def __init__(self, target_port: int) -> None:
        self._lock = threading.Lock()
        self._until: Until | None = None
        self._owners: set[bytes] = set()
        self._channels: set[tuple[bytes, bytes]] = set()
        """Those that were there when it began, or for ever."""
        self._seen: set[tuple[bytes, bytes]] = set()
        super().__init__(target_port, self._claim)

    def deafen(self, until: Until) -> None:
        """From now on; ``heal`` ends it for all.  Channels are no thing that Redis knows."""
        assert until != "channel"
        with self._lock:
            self._until = until
            self._channels = set(self._seen)
            self._owners = {owner for owner, _ in self._seen}

    def heal(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._until = None

    @property
    def swallowed(self) -> int:
        """Claims that were kept from the server."""
        return self.substituted

    def _claim(self, command: list[bytes]) -> tuple[Any, ...] | None:
        script = _SCRIPTS.get(command[1].decode(errors="replace")) if command[0].upper() == b"EVALSHA" else None
        if script not in ("claim", "consume"):
            return None
        place = (command[9], command[11])
        with self._lock:
            self._seen.add(place)
            if script == "consume":
                if self._until == "consumer":
                    self._channels.discard(place)
                return None
            begun = {"consumer": place in self._channels, "session": place[0] in self._owners, "heal": True}
            deaf = self._until is not None and begun[self._until]
        return ("EVAL", "return {2, {}, {}, -1, {}, {}}", 0) if deaf else None


_SCRIPTS = {script.sha1: name for name, script in ALL_SCRIPTS.items()}
