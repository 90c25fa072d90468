"""Programs that others have written for kombu run on kombu_actors, over a reset of all their connections.

``make programs`` installs and runs them; ``make test`` doesn't, and so this file isn't named test_...
``KOMBU_ACTORS_CELERY=0 make programs`` does the same with stock kombu; docs/programs.md has what was seen of both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kombu_actors.celery import DIRECTORY
from kombu_actors.migrate.command import main
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "programs" / "bin" / "python"
SCRIPTS = Path(__file__).parent / "scripts"
TIMEOUT = 150
"""Seconds; the slowest takes 15 on an idle machine."""
EACH = 30
"""What each program does before the reset, and once more after it."""

pytestmark = pytest.mark.slow
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]) -> Run:
    """Run a script on kombu_actors; when it asks for it, reset its connections.  Returns what came of it.

    ``path`` is ``PYTHONPATH``: what puts kombu_actors in kombu's place, if nothing else is named.
    """

    def run(script: str, *arguments: str, path: str = DIRECTORY) -> dict[str, Any]:
        proxy = fault_proxy(rabbitmq.port)
        command = [
            *["timeout", str(TIMEOUT), str(PYTHON), "-W", "ignore", str(SCRIPTS / script), *arguments],
            rabbitmq.url(vhost=vhost, port=proxy.port),
        ]
        environment = {**os.environ, "PYTHONPATH": path, "EVENTLET_NO_GREENDNS": "yes"}
        outcome: dict[str, Any] = {}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdin
            assert process.stdout
            for line in process.stdout:
                word, _, rest = line.partition(" ")
                if word.strip() == "RESET":
                    proxy.reset()
                    print("reset", file=process.stdin, flush=True)
                elif word == "OUTCOME":
                    outcome = json.loads(rest)
        assert process.returncode == 0
        print(script, *arguments, outcome)
        return outcome

    return run


def test_oslo_messagings_calls_casts_and_notifications_all_arrive(run: Run) -> None:
    """Each call has its answer, each cast and each notification comes to the server, none twice."""
    seen = run("oslo_program.py")
    assert seen["errors"] == []
    assert (seen["answers"], seen["noted"], seen["heard"], seen["again"]) == (2 * EACH, 2 * EACH, 2 * EACH, 0)


def test_namekos_calls_and_events_all_arrive(run: Run) -> None:
    """Under eventlet: each call from outside has its answer by way of two services, each event is heard, none twice."""
    seen = run("nameko_program.py")
    assert seen == {"answers": 2 * EACH, "errors": [], "heard": 2 * EACH, "again": 0}


def test_nameko_runs_when_its_imports_are_changed(run: Run, tmp_path: Path) -> None:
    """A copy of its sources, moved by ``kombu_actors.migrate``, needs nothing in kombu's place."""
    (installed,) = PYTHON.parent.parent.glob("lib/python3*/site-packages/nameko")
    shutil.copytree(installed, tmp_path / "nameko")
    assert main([str(tmp_path), "--rewrite", "--yes"]) == 0
    seen = run("nameko_program.py", path=str(tmp_path))
    assert seen == {"answers": 2 * EACH, "errors": [], "heard": 2 * EACH, "again": 0}


def test_servers_of_python_socketio_hear_what_is_emitted(run: Run) -> None:
    """Both servers, from one of them and from a program that only writes; again after the reset."""
    assert run("socketio_program.py") == {"first": [EACH, EACH], "second": [EACH, EACH]}


@pytest.mark.parametrize("watcher", ["flower", "exporter"])
def test_what_watches_celery_sees_every_task(run: Run, watcher: str) -> None:
    """A worker, its client and the watcher are each on kombu_actors; all tasks are done and seen."""
    seen = run("watching_program.py", watcher)
    assert (seen["done"], seen["first"], seen["second"]) == (2 * EACH, EACH, EACH)
