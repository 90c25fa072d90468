"""A pytest plugin for Celery's own tests: which kombu they import, how long each may take, and how each ended.

``soak.celery_suite`` loads it before Celery's plugins, with the environment variables below.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SWITCHED, OUTCOMES, PATIENCE = "SUITE_SWITCHED", "SUITE_OUTCOMES", "SUITE_PATIENCE"
"""``1`` for kombu_actors in kombu's place; the file of outcomes, a line of JSON each; seconds for a test."""

FORGETFUL = "t/unit/worker/test_worker.py"
"""Its tests drop connections without closing them, which stock kombu's memory transport does not mind."""

RACES = {
    "t/integration/test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_0": (
        "forgets what it has heard by the time that delay() is back: of 15 runs 7 failed with stock kombu, 2 here"
    )
}
"""Those that fail by chance and that Celery doesn't call ``flaky``, and why: run again, as it has those run."""

# Looked at now, for some tests empty the environment.
switched = os.environ.get(SWITCHED) == "1"
outcomes = Path(os.environ.get(OUTCOMES, os.devnull))
patience = float(os.environ.get(PATIENCE, "60"))

if switched:
    from kombu_actors.celery import install

    install()  # Celery's plugins import kombu next


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have the runtime's thread there from the start: Celery's tests compare the threads with those they began with."""
    if switched:
        from kombu_actors import Connection

        connection = Connection("memory://kept")
        connection.connect()
        session.config.add_cleanup(connection.release)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Its time goes in front of what the test itself says, which is up to five minutes, six times over."""
    item.add_marker(pytest.mark.timeout(patience), append=False)
    if item.nodeid in RACES:
        item.add_marker(pytest.mark.flaky(reruns=5))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Wait for those of trio's threads that looked up an address: they stay for ten seconds, to be of use again."""
    for thread in threading.enumerate():
        if thread.name.startswith("Trio thread"):
            thread.join(timeout=20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """What a test forgets goes after it: not in the midst of it, by chance, nor of the next one."""
    if not item.nodeid.startswith(FORGETFUL):
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        for name in ("last_type", "last_value", "last_traceback"):  # which keep a failed test's
            vars(sys).pop(name, None)
        gc.collect()
        gc.freeze()  # what thousands of tests have left is not gone through for each of these


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Written as it ends, so that a run that has to be killed has told what it had."""
    with outcomes.open("a") as file:
        file.write(json.dumps([report.nodeid, report.when, report.outcome]) + "\n")
