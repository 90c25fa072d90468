"""P1 at the end of a process: what ``publish`` returned for arrives, whoever ends it, and however late it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kombu_actors import Connection, Queue
from tests.acceptance.ending import LATE, MANY
from tests.support.processes import wait_until

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 30.0
LATE_WAYS = ("atexit", "atexit-release", "atexit-new-connection", "logging")


@pytest.fixture(params=["amqp", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """A broker outside of the process that ends."""
    found: str = request.getfixturevalue({"amqp": "amqp_url", "redis": "redis_url"}[request.param])
    return found


def end(url: str, way: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.acceptance.ending", url, "ending", way]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False)


def arrived(url: str) -> int:
    """How many messages the queue has."""
    with Connection(url) as connection:
        return int(Queue("ending", durable=True)(connection).queue_declare(passive=True).message_count)


@pytest.mark.parametrize("way", LATE_WAYS)
def test_what_is_published_while_the_process_exits_arrives(url: str, way: str) -> None:
    """From functions that ``atexit`` calls after the library's own, and from ``logging.shutdown``."""
    ended = end(url, way)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert arrived(url) == MANY + LATE


def test_what_was_published_arrives_when_an_exception_ends_the_process(url: str) -> None:
    """Without ``release()``."""
    assert end(url, "exception").returncode == 7
    assert arrived(url) == MANY


@pytest.mark.parametrize("way", ["killed-at-rest", "killed-while-busy"])
def test_what_was_published_leaves_within_milliseconds_by_itself(url: str, way: str) -> None:
    """A signal that nobody handles comes a moment after the last publish, whatever the program does until then."""
    assert end(url, way).returncode == -15
    wait_until(lambda: arrived(url) == MANY, timeout=5, waiting_for="the broker to take what it was sent")


def test_publishing_when_the_interpreter_has_ended_fails_at_once(url: str) -> None:
    """A finalizer that runs then can't be waited for by the runtime's thread: it is told so, and hangs nowhere."""
    ended = end(url, "finalizer")
    assert ended.returncode == 0
    assert "RuntimeStopped: the interpreter is shutting down" in ended.stdout
    assert arrived(url) == MANY
