"""The machinery of the fault proxy: one thread's selector loop that owns every socket.

All methods run in that thread, but for ``order``, ``wait`` and the constructor.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import Literal

import attrs

CHUNK = 65536
_HELD_LIMIT = 4 * CHUNK
"""Bytes read and not yet passed on, per direction: past this the sender's TCP window fills, as it would."""

Ending = Literal["rst", "fin", "hang"]


class Direction(Enum):
    """Which way bytes go."""

    UP = "client to server"
    DOWN = "server to client"


@attrs.define
class Cut:
    remaining: int
    how: Ending


@attrs.define
class Faults:
    blackhole: bool = False
    hang: bool = False
    latency: float = 0.0
    chunk: int = CHUNK
    discard: frozenset[Direction] = frozenset()
    cuts: dict[Direction, Cut] = attrs.Factory(dict)
    intolerable: bytes = b""


@attrs.define(eq=False)
class Flow:
    direction: Direction
    source: socket.socket
    sink: socket.socket
    held: deque[tuple[float, bytes]] = attrs.Factory(deque)
    ended: bool = False
    told: bool = False

    @property
    def held_bytes(self) -> int:
        return sum(len(data) for _, data in self.held)


@attrs.define(eq=False)
class Link:
    client: socket.socket | None
    server: socket.socket | None = None
    flows: list[Flow] = attrs.Factory(list)
    frozen: bool = False

    def sockets(self) -> list[socket.socket]:
        return [endpoint for endpoint in (self.client, self.server) if endpoint is not None]


class Relay:
    """Passes bytes between clients and one loopback port, with the faults in force."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.target_port = target_port
        self.faults = Faults()
        self.links: list[Link] = []
        self.counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._selector = selectors.DefaultSelector()
        self._alarm, self._alarmed = socket.socketpair()
        self._stopping = False
        self._listener: socket.socket | None = None
        self._selector.register(self._alarmed, selectors.EVENT_READ)
        self._listen()

    def order(self, action: Callable[[], None]) -> None:
        """From any other thread: have an action carried out; it is when this returns."""
        done = threading.Event()
        self._orders.append((action, done))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # carried out before it rang
            self._alarm.send(b"!")
        if not done.wait(30):
            raise RuntimeError(f"the proxy on port {self.port} is dead")

    def wait(self, condition: Callable[[], bool], timeout: float, waiting_for: str) -> None:
        """From any other thread: wait for what the relay's own work brings about."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"the proxy on port {self.port} waited {timeout} s for {waiting_for}")

    def stop(self) -> None:
        """End the loop, and every connection with it."""
        self._stopping = True

    def run(self) -> None:
        """Serve until ``stop``; the thread's body."""
        try:
            while not self._stopping:
                for key, mask in self._selector.select(self._arrange()):
                    if key.fileobj is self._alarmed:
                        self._alarmed.recv(CHUNK)
                    elif key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._serve(key.data, key.fileobj, mask)
                while self._orders:
                    action, done = self._orders.popleft()
                    action()
                    done.set()
                with self._changed:
                    self._changed.notify_all()
        finally:
            self.sever_all("rst")
            self.stop_listening()
            self._selector.close()
            self._alarmed.close()

    def dispose(self) -> None:
        """After the thread has ended: close the end that others ring at.

        Not in ``run``: an order may be found, and carried out, before it has rung.
        """
        self._alarm.close()

    def _arrange(self) -> float | None:
        """Say which events matter now; return how long until held bytes are due."""
        now = time.monotonic()
        wait: float | None = None
        for link in self.links:
            wanted = dict.fromkeys(link.sockets(), 0)
            if not (self.faults.blackhole or link.frozen):
                for flow in link.flows:
                    if not flow.ended and flow.held_bytes < _HELD_LIMIT:
                        wanted[flow.source] |= selectors.EVENT_READ
                    if flow.held and flow.held[0][0] > now:
                        due = flow.held[0][0] - now
                        wait = due if wait is None else min(wait, due)
                    elif flow.held or (flow.ended and not flow.told):
                        wanted[flow.sink] |= selectors.EVENT_WRITE
            for endpoint, mask in wanted.items():
                self._watch(endpoint, mask, link)
        return wait

    def _watch(self, endpoint: socket.socket, mask: int, link: Link) -> None:
        known = endpoint in self._selector.get_map()
        if mask and known:
            self._selector.modify(endpoint, mask, link)
        elif mask:
            self._selector.register(endpoint, mask, link)
        elif known:
            self._selector.unregister(endpoint)

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(client)
        self.links.append(link)
        self.counts["accepted"] += 1
        if not self.faults.hang:
            self._dial(link)

    def _dial(self, link: Link) -> None:
        assert link.client is not None
        server = link.server = socket.socket()
        server.setblocking(False)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A refusal shows at the first read, and is passed on as a reset.
        server.connect_ex(("127.0.0.1", self.target_port))
        link.flows = [Flow(Direction.UP, link.client, server), Flow(Direction.DOWN, server, link.client)]

    def _serve(self, link: Link, endpoint: object, mask: int) -> None:
        if link not in self.links:
            return  # severed by an event of the same batch
        try:
            for flow in link.flows:
                if mask & selectors.EVENT_READ and flow.source is endpoint:
                    self._read(flow)
                if mask & selectors.EVENT_WRITE and flow.sink is endpoint:
                    self._write(link, flow)
        except OSError:
            self._sever(link, "rst")
            return
        if link.flows and all(flow.told for flow in link.flows):
            self._sever(link, "fin")

    def _read(self, flow: Flow) -> None:
        data = flow.source.recv(CHUNK)
        if not data:
            flow.ended = True
        elif flow.direction is Direction.UP and self.faults.intolerable and self.faults.intolerable in data:
            self.counts["cut"] += 1
            raise ConnectionResetError("the client sent what this proxy can't bear")
        elif flow.direction not in self.faults.discard:
            flow.held.append((time.monotonic() + self.faults.latency, data))

    def _write(self, link: Link, flow: Flow) -> None:
        if not flow.held:
            flow.sink.shutdown(socket.SHUT_WR)
            flow.told = True
            return
        due, data = flow.held.popleft()
        size = min(self.faults.chunk, len(data))
        cut = self.faults.cuts.get(flow.direction)
        if cut:
            size = min(size, cut.remaining)
        sent = flow.sink.send(data[:size]) if size else 0
        self.counts[flow.direction.name] += sent
        if data[sent:]:
            flow.held.appendleft((due, data[sent:]))
        if cut:
            cut.remaining -= sent
            if not cut.remaining:
                del self.faults.cuts[flow.direction]
                self._sever(link, cut.how)
                self.counts["cut"] += 1

    def _sever(self, link: Link, how: Ending) -> None:
        if link not in self.links:
            return
        if how == "hang":
            link.frozen = True
            return
        self.links.remove(link)
        for endpoint in link.sockets():
            self._hang_up(endpoint, link, how)

    def _hang_up(self, endpoint: socket.socket, link: Link, how: Ending) -> None:
        self._watch(endpoint, 0, link)
        if how == "rst":
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                endpoint.shutdown(socket.SHUT_WR)
                while endpoint.recv(CHUNK):  # closing with unread bytes would send a reset
                    pass
        endpoint.close()

    def sever_all(self, how: Ending) -> None:
        """End every connection."""
        for link in list(self.links):
            self._sever(link, how)

    def vanish(self) -> None:
        """Reset the server's side of every connection; the client's stays open, silent."""
        for link in self.links:
            if link.server is not None:
                self._hang_up(link.server, link, "rst")
            link.server, link.flows, link.frozen = None, [], True

    def abandon(self) -> None:
        """Reset the client's side of every connection; the server's stays open, silent."""
        for link in self.links:
            if link.client is not None:
                self._hang_up(link.client, link, "rst")
            link.client, link.flows, link.frozen = None, [], True

    def heal(self) -> None:
        """Back to passing everything on."""
        self.faults = Faults()
        for link in list(self.links):
            if link.frozen and (link.server is None or link.client is None):
                self._sever(link, "rst")  # one side vanished: all that is left to say
            elif link.server is None:
                self._dial(link)
            link.frozen = False
        if self._listener is None:
            self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def stop_listening(self) -> None:
        """Refuse new connections."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
