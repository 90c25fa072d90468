"""Under gevent and eventlet everything works, and a greenlet that waits lets the others run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
GREENLETS = 20
TICKS = 15
"""Of 50 that a free greenlet would have in half a second; on a busy machine some are late."""


def run(*arguments: str, program: str = "greenlets") -> dict[str, Any]:
    """Run a program of this folder; what it saw."""
    environment = {**os.environ, "EVENTLET_NO_GREENDNS": "yes"}  # else eventlet patches trio before anybody sees it
    command = [sys.executable, "-m", f"tests.bridge.{program}", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-3000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def check_everyday_program(library: str, when: str, url: str) -> None:
    """Publishing, consuming, a ConsumerMixin, queues, pools and one connection shared by 20 greenlets; while one
    of them waits for an event, another one runs."""
    seen = run(library, when, url)
    assert seen["got"] == list(range(GREENLETS))
    assert seen["ticks while draining"] > TICKS
    assert seen["mixin"] == list(range(GREENLETS))
    assert seen["simple"] == [True] * GREENLETS
    assert seen["pools"] == [True] * GREENLETS
    assert seen["connecting"] == [True] * GREENLETS
    assert seen["channels"] == 1
    assert seen.get("killed", True)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_an_everyday_program_works_under_monkey_patching(url: str, library: str) -> None:
    """Patched before our import, as the libraries' documentations ask for."""
    check_everyday_program(library, "before", url)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
@pytest.mark.parametrize("when", ["after", "late"])
def test_an_everyday_program_works_when_it_is_patched_late(amqp_url: str, library: str, when: str) -> None:
    """Patched after our import, or even after a connection was used."""
    check_everyday_program(library, when, amqp_url)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_what_the_runtime_says_is_said_by_a_greenlet(amqp_url: str, library: str) -> None:
    """Their locks serve the greenlets of one thread: with the runtime's thread at one, a greenlet could wait for ever.

    So lines are logged, and ``on_refused`` called, in the program's thread, all of them, up to the process' end.
    """
    seen = run(library, amqp_url, program="green_logs")
    assert seen["elsewhere"] == []
    assert seen["greenlets"] == 60
    assert [f"nowhere-{number}" for number in range(21)] == sorted(seen["told"], key=lambda name: int(name[8:]))
    assert len(seen["errors"]) == 21
    assert seen["where"] == ["kombu_actors.publisher", "publisher.py", "_tell"]
