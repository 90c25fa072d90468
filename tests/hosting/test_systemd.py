"""systemd's notification protocol, over a datagram socket as systemd has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from kombu_actors.fleet import Fleet
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.fleet.status import ProcessState
from kombu_actors.hosting import Notifier, notifier_of
from kombu_actors.hosting.systemd import Said, news
from kombu_actors.transport.memory import memory_broker

PATIENCE = 20.0


def shop(name: str) -> Fleet:
    fleet = Fleet(f"memory://{name}", name="shop")

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    return fleet


@contextmanager
def manager(address: str) -> Iterator[trio.socket.SocketType]:
    """The socket that a service manager reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        yield trio.socket.from_stdlib_socket(sock)


async def heard(sock: trio.socket.SocketType, line: str) -> list[str]:
    """All that is said until one line begins like this."""
    lines = list[str]()
    with trio.fail_after(PATIENCE):
        while not any(one.startswith(line) for one in lines):
            lines += (await sock.recv(4096)).decode().split("\n")
    return lines


@pytest.mark.parametrize("kind", ["path", "abstract"])
async def test_systemd_is_told_when_it_is_ready_what_is_wrong_and_that_it_ends(kind: str, tmp_path: Path) -> None:
    """READY once, when every consumer consumes; STATUS says why one doesn't; STOPPING when it drains."""
    address = str(tmp_path / "notify") if kind == "path" else f"@kombu-actors-test-{os.getpid()}"
    broker = f"systemd-{kind}"
    program = SingleProcess(shop(broker))
    with manager(address) as sock, trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(Notifier(address), program)
            early = await heard(sock, "STATUS=starting")
            assert "READY=1" not in early
            async with trio.open_nursery() as running:
                await running.start(partial(program.run, signals=False))
                await heard(sock, "READY=1")
                memory_broker(broker).refuse(True)
                memory_broker(broker).cut()
                assert "backing off" in (await heard(sock, "STATUS=degraded"))[-1]
                memory_broker(broker).refuse(False)
                assert "READY=1" not in await heard(sock, "STATUS=ready")
                program.stop("the test is over")
            await heard(sock, "STOPPING=1")
            nursery.cancel_scope.cancel()


async def test_the_watchdog_is_fed_by_progress(tmp_path: Path) -> None:
    """Twice in its time while the loop turns, without anything happening."""
    program = SingleProcess(shop("watchdog"))
    with manager(str(tmp_path / "notify")) as sock:
        async with trio.open_nursery() as nursery:
            await nursery.start(Notifier(str(tmp_path / "notify"), watchdog=0.4), program)
            await heard(sock, "WATCHDOG=1")
            began = trio.current_time()
            for _ in range(5):
                await heard(sock, "WATCHDOG=1")
            assert trio.current_time() - began >= 0.8
            nursery.cancel_scope.cancel()


def test_the_watchdog_starves_when_no_process_is_heard_of() -> None:
    """Though the parent itself turns."""
    status = SingleProcess(shop("starving")).status()
    silent = attrs.evolve(status.processes[0], beat_age=11.0)
    _, lines = news(Said(), status, 10.0, 1)
    assert "WATCHDOG=1" in lines
    _, lines = news(Said(), attrs.evolve(status, processes=(silent,)), 10.0, 1)
    assert "WATCHDOG=1" not in lines


def test_what_is_known_is_not_said_again() -> None:
    """Nothing is sent while nothing changes."""
    status = SingleProcess(shop("still")).status()
    said, lines = news(Said(), status, None, 1)
    assert lines == ["STATUS=starting; process 1: it is being started"]
    assert news(said, status, None, 1) == (said, [])


def test_a_reload_is_told_as_it_begins_and_when_it_is_over() -> None:
    """With the time, by which systemd knows that its own HUP is meant; READY at a later look, though all was quick."""
    status = attrs.evolve(SingleProcess(shop("reloading")).status(), state=ProcessState.READY, reasons=())
    said, lines = news(Said(), status, None, 1)
    assert lines == ["READY=1", "STATUS=ready"]
    begun = attrs.evolve(status, reloads=1, reloading=True)
    said, lines = news(said, begun, None, 5_000_000)
    assert lines == ["RELOADING=1", "MONOTONIC_USEC=5000000"]
    assert news(said, begun, None, 6_000_000) == (said, [])
    said, lines = news(said, attrs.evolve(begun, reloading=False), None, 7_000_000)
    assert lines == ["READY=1"]
    quick = attrs.evolve(status, reloads=2)  # begun and over between two looks
    said, lines = news(said, quick, None, 8_000_000)
    assert lines == ["RELOADING=1", "MONOTONIC_USEC=8000000"]
    said, lines = news(said, quick, None, 9_000_000)
    assert lines == ["READY=1"]
    assert news(said, quick, None, 9_000_001) == (said, [])


def test_no_reload_is_told_before_the_first_ready() -> None:
    """systemd waits for that; and one that began before it is no news afterwards."""
    starting = attrs.evolve(SingleProcess(shop("early")).status(), reloads=1)
    said, lines = news(Said(), starting, None, 1)
    assert not any(line.startswith("RELOADING") for line in lines)
    said, lines = news(said, attrs.evolve(starting, state=ProcessState.READY, reasons=()), None, 1)
    assert lines == ["READY=1", "STATUS=ready"]
    assert news(said, attrs.evolve(starting, state=ProcessState.READY, reasons=()), None, 1) == (said, [])


async def test_a_socket_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """The unit is wrong, or the socket not mounted into the container."""
    with pytest.raises(OSError, match=r"systemd can't be told at .*nowhere: No such file"):
        await Notifier(str(tmp_path / "nowhere"))(SingleProcess(shop("nobody")))


def test_only_what_systemd_means_for_this_process_counts() -> None:
    """The variables are taken out of the environment, and another process's watchdog isn't ours."""
    environment = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1", "HOME": "/"}
    notifier = notifier_of(environment)
    assert notifier is not None
    assert notifier._watchdog is None
    assert environment == {"HOME": "/"}
    notifier = notifier_of({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier is not None
    assert notifier._watchdog == 3.0
    assert notifier_of({}) is None
    assert notifier_of({"NOTIFY_SOCKET": "vsock:2:1234"}) is None
