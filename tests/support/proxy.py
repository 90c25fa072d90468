"""A TCP proxy that breaks connections on order.

One thread owns every socket and sleeps in a selector (``relay``); orders reach it through a
queue and are in force when the method that gave them returns.  It knows nothing of trio, so
its clock runs whatever a test does to trio's.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from .processes import free_port
from .relay import Cut, Direction, Ending, Relay

__all__ = ["Direction", "Ending", "FaultProxy"]


class FaultProxy:
    """Passes connections on to a loopback port until told to misbehave; ``heal`` ends all faults.

    Use it as a context manager, or ``close`` it.  ``port`` stays the same over every fault.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self._relay = Relay(self.port, target_port)
        # A daemon, so that a proxy that a test forgot to close can't keep pytest from exiting.
        self._thread = threading.Thread(target=self._relay.run, name=f"FaultProxy:{self.port}", daemon=True)
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
        self._relay.order(self._relay.heal)

    def reset(self) -> None:
        """Break every connection with a TCP reset on both sides; new ones are passed on."""
        self._relay.order(lambda: self._relay.sever_all("rst"))

    def finish(self) -> None:
        """End every connection politely (FIN) on both sides."""
        self._relay.order(lambda: self._relay.sever_all("fin"))

    def refuse(self) -> None:
        """Stop listening: connecting is refused.  Open connections stay."""
        self._relay.order(self._relay.stop_listening)

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
        self._relay.order(lambda: self._relay.faults.cuts.update({direction: Cut(count, how)}))

    def cut_on(self, intolerable: bytes) -> None:
        """Reset each connection whose client sends these bytes, before the server gets them; counted as cuts."""
        self._set(intolerable=intolerable)

    def vanish(self) -> None:
        """Drop the server's side of every connection; the clients are never told."""
        self._relay.order(self._relay.vanish)

    def abandon(self) -> None:
        """Reset the client's side of every connection; the server is told by ``heal``.  New ones are passed on."""
        self._relay.order(self._relay.abandon)

    def close(self) -> None:
        """Reset what is open, stop listening, end the thread.  May be called twice."""
        if self._thread.is_alive():
            self._relay.order(self._relay.stop)
        self._thread.join()
        self._relay.dispose()

    # --- what a test may ask -----------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far."""
        return self._relay.counts["accepted"]

    @property
    def open(self) -> int:
        """How many connections are open, hung and vanished ones included."""
        return len(self._relay.links)

    def passed(self, direction: Direction) -> int:
        """How many bytes were delivered so far in this direction."""
        return self._relay.counts[direction.name]

    def wait_accepted(self, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` connections were accepted in total."""
        self._relay.wait(lambda: self.accepted >= count, timeout, f"{count} connections (had {self.accepted})")

    @property
    def cuts(self) -> int:
        """How many connections ``cut_after`` and ``cut_on`` have cut so far."""
        return self._relay.counts["cut"]

    def wait_cut(self, count: int = 1, timeout: float = 30.0) -> None:
        """Wait until ``cut_after`` has cut ``count`` connections in total."""
        self._relay.wait(lambda: self._relay.counts["cut"] >= count, timeout, "the cut")

    def wait_closed(self, timeout: float = 30.0) -> None:
        """Wait until no connection is open."""
        self._relay.wait(lambda: not self._relay.links, timeout, f"{self.open} connections to end")

    def _set(self, **faults: object) -> None:
        def change() -> None:
            for name, value in faults.items():
                setattr(self._relay.faults, name, value)

        self._relay.order(change)
