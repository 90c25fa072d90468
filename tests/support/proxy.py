"""A TCP proxy that breaks connections on order.

One thread owns every socket and sleeps in a selector; orders reach it through a queue and
are in force when the method that gave them returns.  It knows nothing of trio, so its
clock runs whatever a test does to trio's.
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
from types import TracebackType
from typing import Literal, Self

import attrs

from .processes import free_port

_CHUNK = 65536
_HELD_LIMIT = 4 * _CHUNK
"""Bytes read and not yet passed on, per direction: past this the sender's TCP window fills, as it would."""

Ending = Literal["rst", "fin", "hang"]


class Direction(Enum):
    """Which way bytes go."""

    UP = "client to server"
    DOWN = "server to client"


@attrs.define
class _Cut:
    remaining: int
    how: Ending


@attrs.define
class _Faults:
    blackhole: bool = False
    hang: bool = False
    latency: float = 0.0
    chunk: int = _CHUNK
    discard: frozenset[Direction] = frozenset()
    cuts: dict[Direction, _Cut] = attrs.Factory(dict)


@attrs.define(eq=False)
class _Flow:
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
class _Link:
    client: socket.socket
    server: socket.socket | None = None
    flows: list[_Flow] = attrs.Factory(list)
    frozen: bool = False

    def sockets(self) -> list[socket.socket]:
        return [self.client] if self.server is None else [self.client, self.server]


class FaultProxy:
    """Passes connections on to a loopback port until told to misbehave; ``heal`` ends all faults.

    Use it as a context manager, or ``close`` it.  ``port`` stays the same over every fault.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self._faults = _Faults()
        self._links: list[_Link] = []
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._selector = selectors.DefaultSelector()
        self._alarm, self._alarmed = socket.socketpair()
        self._listener: socket.socket | None = None
        self._selector.register(self._alarmed, selectors.EVENT_READ)
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"FaultProxy:{self.port}")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what a test may order ----------------------------------------------------

    def heal(self) -> None:
        """Pass everything again: held bytes flow on, hung connections reach the server, the port listens."""
        self._order(self._heal)

    def reset(self) -> None:
        """Break every connection with a TCP reset on both sides; new ones are passed on."""
        self._order(lambda: self._sever_all("rst"))

    def finish(self) -> None:
        """End every connection politely (FIN) on both sides."""
        self._order(lambda: self._sever_all("fin"))

    def refuse(self) -> None:
        """Stop listening: connecting is refused.  Open connections stay."""
        self._order(self._stop_listening)

    def hang(self) -> None:
        """Accept new connections and never answer on them.  Open connections stay."""
        self._set(hang=True)

    def blackhole(self) -> None:
        """Move no byte on any connection, in either direction, and keep all of them open."""
        self._set(blackhole=True)

    def latency(self, seconds: float) -> None:
        """Deliver every byte this much later, in each direction."""
        self._set(latency=seconds)

    def split(self, size: int = 1) -> None:
        """Deliver in pieces of this many bytes."""
        self._set(chunk=size)

    def discard(self, *directions: Direction) -> None:
        """Swallow what goes in these directions: its sender believes it was delivered."""
        self._set(discard=frozenset(directions))

    def cut_after(self, count: int, direction: Direction, how: Ending = "rst") -> None:
        """Deliver ``count`` more bytes, then end *that* connection; ``wait_cut`` waits for it.

        With ``rst`` and ``fin`` both sides are told; with ``hang`` nobody is, until ``heal``.
        """
        self._order(lambda: self._faults.cuts.__setitem__(direction, _Cut(count, how)))

    def vanish(self) -> None:
        """Drop the server's side of every connection; the clients are never told."""
        self._order(self._vanish)

    def close(self) -> None:
        """Reset what is open, stop listening, end the thread.  May be called twice."""
        if self._thread.is_alive():
            self._order(lambda: self._counts.update(closed=1))
        self._thread.join()

    # --- what a test may ask -----------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._counts["accepted"]

    @property
    def open(self) -> int:
        """How many connections are open, hung and vanished ones included."""
        return len(self._links)

    def passed(self, direction: Direction) -> int:
        """How many bytes were delivered so far in this direction."""
        return self._counts[direction.name]

    def wait_accepted(self, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` connections were accepted in total."""
        self._wait(lambda: self.accepted >= count, timeout, f"{count} connections (had {self.accepted})")

    def wait_cut(self, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until ``cut_after`` has cut ``count`` connections in total."""
        self._wait(lambda: self._counts["cut"] >= count, timeout, "the cut")

    def wait_closed(self, timeout: float = 30.0) -> None:
        """Wait until no connection is open."""
        self._wait(lambda: not self._links, timeout, f"{self.open} connections to end")

    # --- everything below runs in the proxy's thread, but for these three ------------

    def _wait(self, condition: Callable[[], bool], timeout: float, waiting_for: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"the proxy on port {self.port} waited {timeout} s for {waiting_for}")

    def _set(self, **faults: object) -> None:
        def change() -> None:
            for name, value in faults.items():
                setattr(self._faults, name, value)

        self._order(change)

    def _order(self, action: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((action, done))
        self._alarm.send(b"!")
        if not done.wait(30):
            raise RuntimeError(f"the proxy on port {self.port} is dead")

    def _run(self) -> None:
        try:
            while not self._counts["closed"]:
                for key, mask in self._selector.select(self._arrange()):
                    if key.fileobj is self._alarmed:
                        self._alarmed.recv(_CHUNK)
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
            self._sever_all("rst")
            self._stop_listening()
            self._selector.close()
            self._alarm.close()
            self._alarmed.close()

    def _arrange(self) -> float | None:
        """Say which events matter now; return how long until held bytes are due."""
        now = time.monotonic()
        wait: float | None = None
        for link in self._links:
            wanted = dict.fromkeys(link.sockets(), 0)
            if not (self._faults.blackhole or link.frozen):
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

    def _watch(self, endpoint: socket.socket, mask: int, link: _Link) -> None:
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
        link = _Link(client)
        self._links.append(link)
        self._counts["accepted"] += 1
        if not self._faults.hang:
            self._dial(link)

    def _dial(self, link: _Link) -> None:
        server = link.server = socket.socket()
        server.setblocking(False)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A refusal shows at the first read, and is passed on as a reset.
        server.connect_ex(("127.0.0.1", self.target_port))
        link.flows = [_Flow(Direction.UP, link.client, server), _Flow(Direction.DOWN, server, link.client)]

    def _serve(self, link: _Link, endpoint: object, mask: int) -> None:
        if link not in self._links:
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

    def _read(self, flow: _Flow) -> None:
        data = flow.source.recv(_CHUNK)
        if not data:
            flow.ended = True
        elif flow.direction not in self._faults.discard:
            flow.held.append((time.monotonic() + self._faults.latency, data))

    def _write(self, link: _Link, flow: _Flow) -> None:
        if not flow.held:
            flow.sink.shutdown(socket.SHUT_WR)
            flow.told = True
            return
        due, data = flow.held.popleft()
        size = min(self._faults.chunk, len(data))
        cut = self._faults.cuts.get(flow.direction)
        if cut:
            size = min(size, cut.remaining)
        sent = flow.sink.send(data[:size]) if size else 0
        self._counts[flow.direction.name] += sent
        if data[sent:]:
            flow.held.appendleft((due, data[sent:]))
        if cut:
            cut.remaining -= sent
            if not cut.remaining:
                del self._faults.cuts[flow.direction]
                self._sever(link, cut.how)
                self._counts["cut"] += 1

    def _sever(self, link: _Link, how: Ending) -> None:
        if link not in self._links:
            return
        if how == "hang":
            link.frozen = True
            return
        self._links.remove(link)
        for endpoint in link.sockets():
            self._hang_up(endpoint, link, how)

    def _hang_up(self, endpoint: socket.socket, link: _Link, how: Ending) -> None:
        self._watch(endpoint, 0, link)
        if how == "rst":
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                endpoint.shutdown(socket.SHUT_WR)
                while endpoint.recv(_CHUNK):  # closing with unread bytes would send a reset
                    pass
        endpoint.close()

    def _sever_all(self, how: Ending) -> None:
        for link in list(self._links):
            self._sever(link, how)

    def _vanish(self) -> None:
        for link in self._links:
            if link.server is not None:
                self._hang_up(link.server, link, "rst")
            link.server, link.flows, link.frozen = None, [], True

    def _heal(self) -> None:
        self._faults = _Faults()
        for link in list(self._links):
            if link.frozen and link.server is None:
                self._sever(link, "rst")  # its server side vanished: all that is left to say
            elif link.server is None:
                self._dial(link)
            link.frozen = False
        if self._listener is None:
            self._listen()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
