"""The runtime is loaded with the first connection: whatever happens meanwhile, and nothing is loaded after that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # Python 3.12 on forks with threads


def run(way: str, url: str = "memory://loading") -> None:
    """Run the program, which fails if it finds fault."""
    command = [sys.executable, *WARNINGS, "-m", "tests.bridge.loading", way, url]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]


def test_an_interrupt_while_the_runtime_is_loaded_leaves_it_loadable() -> None:
    """A signal handler raises at any of a dozen moments; the next connection works."""
    run("interrupted")


def test_a_handler_may_use_a_connection_while_the_runtime_is_loaded() -> None:
    """A signal comes at any of a dozen moments of the first connection; its handler publishes and receives."""
    run("handled")


def test_a_fork_while_another_thread_loads_the_runtime_leaves_it_loadable_in_the_child() -> None:
    """The process forks at any of a dozen moments: the child has no module's lock that nobody releases."""
    run("forked")


def test_threads_may_make_their_first_connections_at_the_same_time() -> None:
    """Sixteen, in a process where nothing of the runtime is loaded."""
    run("together")


def test_a_process_without_a_thread_left_may_make_a_connection() -> None:
    """Connecting is what says that there is none, and works when there is one."""
    run("threadless")


def test_the_thread_that_loads_has_ended_when_there_is_a_connection() -> None:
    """However slow it is to end: a program that compares its threads with those before does not find it."""
    run("ended")


def test_what_is_registered_with_atexit_after_the_import_runs_before_connections_are_drained(amqp_url: str) -> None:
    """Though the runtime, which drains them, is loaded later."""
    run("at-exit", amqp_url)


@pytest.mark.parametrize("broker", ["amqp", "redis", "memory"])
def test_nothing_is_loaded_once_there_is_a_connection(request: pytest.FixtureRequest, broker: str) -> None:
    """So neither a thread nor a signal handler nor the end of the process imports anything by using it."""
    run("all-loaded", "memory://loading" if broker == "memory" else request.getfixturevalue(f"{broker}_url"))
