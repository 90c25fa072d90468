"""Programs that block serve the tree of their connection with one call, too."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from kombu_actors import Connection
from kombu_actors.transport.memory import memory_broker
from kombu_actors.web import Binding, serve_status_sync
from tests.fleet.support import PATIENCE
from tests.support.processes import free_port, wait_until


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_blocking_program_serves_its_connection_with_one_call() -> None:
    """Ready while the session is up, not ready with the reason while it isn't, and gone with the block."""
    bind = Binding(port=free_port())
    with Connection("memory://web-blocking") as connection:
        with serve_status_sync(connection, bind, name="django"):
            assert get(bind.port, "/readyz")[0] == 200
            status = json.loads(get(bind.port, "/status.json")[1])
            assert (status["fleet"], status["state"]) == ("django", "ready")
            memory_broker("web-blocking").refuse(True)
            memory_broker("web-blocking").cut()
            wait_until(lambda: get(bind.port, "/readyz")[0] == 503, timeout=PATIENCE, waiting_for="not ready")
            assert get(bind.port, "/livez")[0] == 200
            memory_broker("web-blocking").refuse(False)
            wait_until(lambda: get(bind.port, "/readyz")[0] == 200, timeout=PATIENCE, waiting_for="ready again")
        with pytest.raises(urllib.error.URLError):
            get(bind.port, "/livez")
        assert connection.connected


def test_a_port_in_use_is_said_and_the_connection_goes_on() -> None:
    """Bare, as ``listen`` says it."""
    bind = Binding(port=free_port())
    with Connection("memory://web-blocking") as connection, bind.listen():
        with pytest.raises(OSError, match="listens there already"), serve_status_sync(connection, bind):
            pass
        assert connection.connected
