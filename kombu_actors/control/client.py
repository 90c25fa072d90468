"""Asking a fleet that runs, over its control socket.  It blocks, and imports little: probes are made of it.

with Control(find(fleet="shop")) as control:
    print(control.ask("status")["state"])
"""

from __future__ import annotations

import os
import socket

from .places import check_length, named, peer_uid, sockets
from .wire import ANSWER_MAX, TIMEOUT, NotAMessage, decode, encode

TYPE_CHECKING = False  # as type checkers know it: importing typing takes a probe's time
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Any, Self

__all__ = ["AmbiguousFleet", "Control", "NobodyAnswers", "Refused", "find"]

CHUNK = 256 * 1024


class NobodyAnswers(Exception):
    """No fleet runs there, or it doesn't answer; the text says which."""


class AmbiguousFleet(Exception):
    """Several fleets run, and it isn't said which one is meant."""


class Refused(Exception):
    """It answered, and won't do it, or failed; ``exit`` is the exit code for that."""

    def __init__(self, text: str, exit: int) -> None:
        super().__init__(text)
        self.exit = exit


def find(*, fleet: str | None = None, control: str | None = None) -> str:
    """The socket of the fleet that is meant: the one at ``control``, the one that ``fleet`` names, or the only one.

    ``control`` may be a directory, too: then only what is in there is looked at.

    Raises:
        NobodyAnswers: there is none.
        AmbiguousFleet: there are several.
    """
    directory = control if control and os.path.isdir(control) else None
    if control and directory is None:
        return os.path.abspath(control)
    alive = [path for path in sockets(fleet, directory) if _answers(path)]
    if len(alive) == 1:
        return alive[0]
    which = "no fleet" if fleet is None else f"no fleet {fleet!r}"
    if not alive:
        where = "of this user runs here" if directory is None else f"runs in {directory}"
        raise NobodyAnswers(f"{which} {where} with a control socket; --control says where one is")
    listed = "; ".join(f"{named(path)[0]} (pid {named(path)[1]}) at {path}" for path in alive)
    raise AmbiguousFleet(f"several fleets run here, choose one with --fleet or --control: {listed}")


def _answers(path: str) -> bool:
    """Whether anybody listens: those who were killed leave their sockets."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(TIMEOUT)
        try:
            probe.connect(path)
        except OSError as error:
            return isinstance(error, TimeoutError | BlockingIOError)  # somebody does, and is too busy
        return True


class Control:
    """A connection to a fleet's control socket; ``timeout`` is the seconds of silence after which it gives up.

    Raises ``NobodyAnswers``, here and from each call.
    """

    def __init__(self, path: str, *, timeout: float = TIMEOUT) -> None:
        self.path = path
        self.timeout = timeout
        self._rest = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            check_length(path)
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            self._check_peer()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise NobodyAnswers(f"nobody answers at {path}: {error.strerror or error}") from None
            raise

    def ask(self, verb: str, **arguments: object) -> Any:
        """What the fleet answers; raises ``Refused``."""
        self._send(verb, arguments)
        while True:
            answer = self._receive()
            if "value" in answer:
                return answer["value"]

    def follow(self, verb: str, **arguments: object) -> Iterator[Any]:
        """What the fleet tells, one after the other, until it has ended; None is a beat.  Raises ``Refused``."""
        self._send(verb, arguments)
        while True:
            answer = self._receive()
            if "item" in answer:
                yield answer["item"]
            elif "value" in answer:
                return
            else:
                yield None

    def wait_closed(self) -> None:
        """Wait until the fleet has ended, however long that takes."""
        self._socket.settimeout(None)
        try:
            while self._socket.recv(CHUNK):
                pass
        except ConnectionError:
            pass

    def close(self) -> None:
        """Leave; what it is at work on for this asker ends."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_peer(self) -> None:
        uid = peer_uid(self._socket)
        if os.geteuid() not in (0, uid):
            raise NobodyAnswers(f"the process at {self.path} is of another user (uid {uid}): it is not asked")

    def _send(self, verb: str, arguments: Mapping[str, object]) -> None:
        try:
            self._socket.sendall(encode({"verb": verb, **arguments}))
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self) -> dict[str, object]:
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0:
            searched = len(self._rest)
            if searched > ANSWER_MAX:
                raise NobodyAnswers(f"what answers at {self.path} is no fleet: its line has no end")
            try:
                chunk = self._socket.recv(CHUNK)
            except OSError as error:
                raise self._lost(error) from None
            if not chunk:
                raise NobodyAnswers(f"the fleet at {self.path} has ended before it answered")
            self._rest += chunk
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        try:
            answer = decode(line)
        except NotAMessage as error:
            raise NobodyAnswers(f"what answers at {self.path} is no fleet: {error}") from None
        if "error" in answer:
            exit = answer.get("exit")
            raise Refused(str(answer["error"]), exit if isinstance(exit, int) else 1)
        return answer

    def _lost(self, error: OSError) -> NobodyAnswers:
        if isinstance(error, TimeoutError):
            return NobodyAnswers(f"the process at {self.path} has not answered for {self.timeout:g} s")
        return NobodyAnswers(f"the fleet at {self.path} has gone: {error.strerror or error}")
