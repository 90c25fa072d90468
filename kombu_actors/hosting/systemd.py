"""systemd's notification protocol (``sd_notify(3)``): a datagram of ``NAME=value`` lines to ``$NOTIFY_SOCKET``.

``Type=notify`` units are started when every consumer consumes; ``systemctl status`` shows why one doesn't;
``Type=notify-reload`` has ``systemctl reload`` wait until all processes are new; and ``WatchdogSec=`` has a program
started again whose event loop stands, or whose processes are silent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

import attrs
import trio

from ..fleet.program import Program
from ..fleet.status import Status
from .following import follow
from .living import SILENT, alive, ending

__all__ = ["Notifier", "notifier_of"]

logger = logging.getLogger("kombu_actors.hosting")

EVERY = 5.0
"""Seconds between two looks when nothing happens, at most."""
TEXT_MAX = 500
"""Characters of a STATUS: it is a line in ``systemctl status``."""


@attrs.frozen
class Said:
    """What systemd has been told."""

    ready: bool = False
    stopping: bool = False
    reloads: int = 0
    reloading: bool = False
    text: str = ""


def news(said: Said, status: Status, watchdog: float | None, now: int) -> tuple[Said, list[str]]:
    """What it is to be told at this look, and what it knows then.  Pure; ``now`` in microseconds of CLOCK_MONOTONIC."""
    lines = []
    if ending(status) and not said.stopping:
        said = attrs.evolve(said, stopping=True)
        lines.append("STOPPING=1")
    elif status.ready and not said.ready:
        said = attrs.evolve(said, ready=True, reloads=status.reloads)
        lines.append("READY=1")
    elif said.ready and status.reloads > said.reloads:
        said = attrs.evolve(said, reloads=status.reloads, reloading=True)
        lines += ["RELOADING=1", f"MONOTONIC_USEC={now}"]
    elif said.reloading and not status.reloading:
        # At a later look: systemd takes READY for the answer to what it heard before.
        said = attrs.evolve(said, reloading=False)
        lines.append("READY=1")
    text = "; ".join([status.state.value, *status.reasons]).replace("\n", " ")[:TEXT_MAX]
    if text != said.text:
        said = attrs.evolve(said, text=text)
        lines.append(f"STATUS={text}")
    if watchdog is not None and alive(status, min(SILENT, watchdog))[0]:
        lines.append("WATCHDOG=1")
    return said, lines


class Notifier:
    """A companion that tells systemd how the program stands.

    Args:
        address: of the socket: a path, or "@..." in the abstract namespace.
        watchdog: seconds within which systemd wants to hear of it; None: it doesn't.
    """

    def __init__(self, address: str, watchdog: float | None = None) -> None:
        self._address = address
        self._watchdog = watchdog
        self._said = Said()

    async def __call__(
        self, program: Program, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Tell it until cancelled; raises ``OSError`` when there is no such socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.connect(f"\0{self._address[1:]}" if self._address.startswith("@") else self._address)
            except OSError as error:
                raise OSError(f"systemd can't be told at $NOTIFY_SOCKET {self._address}: {error.strerror}") from error
            task_status.started()
            try:
                every = EVERY if self._watchdog is None else min(self._watchdog / 2, EVERY)
                await follow(program, lambda status: self._tell(sock, status), every)
            finally:
                if not self._said.stopping:
                    _send(sock, ["STOPPING=1"])

    def _tell(self, sock: socket.socket, status: Status) -> None:
        said, lines = news(self._said, status, self._watchdog, time.monotonic_ns() // 1000)
        if not lines or _send(sock, lines):
            self._said = said


def _send(sock: socket.socket, lines: list[str]) -> bool:
    """One datagram: it is whole, or isn't sent."""
    try:
        sock.send("\n".join(lines).encode())
    except OSError as error:  # its buffer is full, or it is being replaced: the next look says it again
        logger.warning("systemd could not be told %s: %s", lines[0], error)
        return False
    return True


def notifier_of(environment: MutableMapping[str, str]) -> Notifier | None:
    """What systemd asks for in the environment; None when it doesn't, or another service manager runs this.

    The variables are taken out: programs that handlers start are not meant.
    """
    address = environment.pop("NOTIFY_SOCKET", "")
    usec, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not address:
        return None
    if address[0] not in "/@":
        logger.warning("$NOTIFY_SOCKET %r is neither a path nor abstract: nothing is told there", address)
        return None
    watched = usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
    return Notifier(address, int(usec) / 1e6 if watched else None)
