"""Server processes that belong to this test run and can't outlive it.

Every process is started through ``setpriv --pdeathsig KILL``: the kernel kills it when the
thread that started it ends, even if pytest itself was killed with signal 9.  That is also
why processes are started from the main thread only: a worker thread ends too early.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import trio

# Below the kernel's ephemeral range (32768 and up): while a node is down no outgoing
# connection can take its port, so it can always be restarted on it.
_PORTS = range(20000, 32000)
_ports_given: set[int] = set()

_PROBE_PAUSE = 0.02
"""How long one look at a starting process lasts; its exit ends the look at once."""


def free_port(ports: range = _PORTS) -> int:
    """Pick a loopback port that nobody listens on and that this run has not given out."""
    while True:
        port = random.choice(ports)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port


def wait_until(condition: Callable[[], object], *, timeout: float, waiting_for: str) -> None:
    """Look at another process until a condition holds: for what it announces by no event."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout} s for {waiting_for}")
        time.sleep(_PROBE_PAUSE)


class ServerProcess:
    """One server program: started, probed until it serves, and surely ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        is_serving: Callable[[], bool],
        start_timeout: float,
    ) -> None:
        self.program = command[0]
        self._command = ["setpriv", "--pdeathsig", "KILL", *command]
        self.directory = directory
        self.environment = dict(environment)
        self.start_timeout = start_timeout
        self._is_serving = is_serving
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id (``setpriv`` replaces itself by the program)."""
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What the program printed, over all its starts."""
        path = self._output_path
        return path.read_text(errors="replace") if path.exists() else ""

    def spawn(self) -> None:
        """Start the program and return without waiting until it serves."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start servers from the main thread: they die with the thread that started them")
        if self.running:
            raise RuntimeError(f"{self.program} is already running")
        with self._output_path.open("ab") as output:
            self._process = self._popen(output)

    def wait_ready(self) -> None:
        """Wait until the server answers; may run in any thread."""
        process = self._running()
        deadline = time.monotonic() + self.start_timeout
        while True:
            with contextlib.suppress(OSError):
                if self._is_serving():
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_PROBE_PAUSE)
                raise RuntimeError(f"{self.program} ended with status {status}:\n{self.output[-3000:]}")
            if time.monotonic() > deadline:
                self.kill9()
                raise TimeoutError(f"{self.program} not ready in {self.start_timeout} s:\n{self.output[-3000:]}")

    def start(self) -> None:
        """Start the program and wait until it serves."""
        self.spawn()
        self.wait_ready()

    async def start_async(self) -> None:
        """Like ``start``, with the caller's trio loop running meanwhile."""
        self.spawn()
        await self.wait_ready_async()

    async def wait_ready_async(self) -> None:
        await trio.to_thread.run_sync(self.wait_ready)

    def kill9(self) -> None:
        """Kill it as a power cut would, stopped or not, and reap it."""
        process = self._running()
        process.kill()
        process.wait(30)

    def sigstop(self) -> None:
        """Freeze it: the kernel still accepts connections and bytes for it, nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def sigcont(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, timeout: float = 60.0) -> None:
        """End it politely (SIGTERM), by force when it does not obey; a no-op when it has ended."""
        if not self.running:
            return
        process = self._running()
        self.sigcont()
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise TimeoutError(f"{self.program} did not stop in {timeout} s and was killed") from None

    @property
    def _output_path(self) -> Path:
        return self.directory / "output"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.program} was not started")
        return self._process

    def _popen(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C at the terminal is for pytest, which then stops us in order
        )


def answers(port: int, greeting: bytes, expected: tuple[bytes, ...]) -> bool:
    """Connect to a loopback port, send a greeting, and say whether the answer begins as expected."""
    with socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.settimeout(5)
        if greeting:
            connection.sendall(greeting)
            return connection.recv(64).startswith(expected)
        return True
