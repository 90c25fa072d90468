"""What ``kombu-actors run`` has beside the fleet: ``--http``, ``--health-file``, systemd."""

from __future__ import annotations

import re
import signal
import socket
import stat
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from kombu_actors.cli.verbs import program
from tests.support.processes import wait_until

from .program import HERE, PATIENCE, Program, run, running


def url_of(process: Program) -> str:
    process.wait_for("status is served at")
    found = re.search(r"status is served at (\S+)", "".join(process.err))
    assert found is not None
    return found[1]


def test_a_port_alone_is_this_machines() -> None:
    """The place is logged, it answers there, and the program ends as without it."""
    with running("run", "shop:fleet", "--http", "0") as process:
        process.wait_for("READY")
        url = url_of(process)
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}/readyz") as answer:
            assert answer.read() == b"ready\n"
        process.send(signal.SIGTERM)
        assert process.wait().code == 0


def test_a_unix_socket_is_its_owners_and_is_taken_away(tmp_path: Path) -> None:
    """Mode 0600; one that a killed process left behind is no hindrance; it is gone at the end."""
    path = tmp_path / "status"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with running("run", "shop:fleet", "--http", f"unix:{path}") as process:
        process.wait_for("READY")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        process.send(signal.SIGTERM)
        assert process.wait().code == 0
    assert not path.exists()


def test_a_place_that_is_taken_is_said_in_a_line() -> None:
    """Exit code 2, before the fleet takes a message."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("run", "shop:fleet", "--http", str(port))
    assert ended.code == 2
    assert f"nothing can be served at 127.0.0.1:{port}: another program listens there already" in ended.err


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("nowhere", "say HOST:PORT, a PORT of this machine, or unix:PATH"),
        ("1.2.3.4:70000", "say HOST:PORT"),
        ("::1:80", "an IPv6 address stands in brackets, [::1]:80"),
        ("unix:", "names no path"),
    ],
)
def test_what_is_no_place_is_said(place: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and what a place looks like."""
    monkeypatch.chdir(HERE)
    ended = CliRunner().invoke(program, ["run", "shop:fleet", "--http", place])
    assert ended.exit_code == 2
    assert text in ended.output


def test_systemd_and_probes_hear_of_it(tmp_path: Path) -> None:
    """The unit's socket is told READY and STOPPING by the process itself, and handlers' processes can't; the file of a
    probe is there meanwhile."""
    file, address = tmp_path / "ready", str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000", "KOMBU_ACTORS_HEALTH_FILE": str(file)}
        with running("run", "shop:fleet", environment=environment) as process:
            said = ""
            while "READY=1" not in said:
                said += manager.recv(4096).decode()
            assert "WATCHDOG=1" in said
            wait_until(file.exists, timeout=PATIENCE, waiting_for="the health file")
            process.send(signal.SIGTERM)
            while "STOPPING=1" not in said:
                said += manager.recv(4096).decode()
            assert process.wait().code == 0
    assert not file.exists()
