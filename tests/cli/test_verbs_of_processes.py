"""The verbs, of a fleet in several processes: its parent answers for all."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.redis_server import RedisNode

from .program import Program, run, running


@pytest.fixture(scope="module")
def environment(redis_server: RedisNode, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the fleet and its socket are."""
    redis_server.flush()
    return {"SHOP_URL": redis_server.url(), "KOMBU_ACTORS_CONTROL": str(tmp_path_factory.mktemp("runtime"))}


@pytest.fixture(scope="module")
def fleet(environment: dict[str, str]) -> Iterator[Program]:
    """Two processes."""
    with running("run", "shop:fleet", "-p", "2", environment=environment) as process:
        process.wait_for("is READY, in 2 processes")
        yield process


@pytest.fixture
def verb(fleet: Program, environment: dict[str, str]) -> Any:
    """Run a verb that succeeds; its answer."""

    def ask(*arguments: str) -> Any:
        ended = run(*arguments, "-j", environment=environment)
        assert (ended.code, ended.err) == (0, "")
        return json.loads(ended.out)

    return ask


def test_status_and_trees_are_those_of_all_processes(verb: Any) -> None:
    """And the parent's own."""
    found = verb("status")
    assert [one["number"] for one in found["processes"]] == [1, 2]
    assert {one["state"] for one in found["processes"]} == {"ready"}
    assert [one["process"] for one in verb("inspect", "tree")] == [None, 1, 2]
    assert [row["process"] for row in verb("inspect", "consumers")] == [1, 1, 2, 2]
    assert [one["pid"] for one in verb("top")["processes"]] == [one["pid"] for one in found["processes"]]


def test_a_queue_is_paused_in_all_processes(verb: Any, environment: dict[str, str]) -> None:
    """Nobody consumes it then; a mistake is told with the process that found it."""
    verb("pause", "shop.other")
    assert consumers_of(verb, "shop.other") == 0
    verb("publish", "shop.other", '"waits"')
    assert all(row["paused"] for row in verb("inspect", "consumers") if row["queue"] == "shop.other")
    verb("resume", "shop.other")
    assert consumers_of(verb, "shop.other") == 2
    ended = run("restart", "nobody", environment=environment)
    assert (ended.code, ended.err.count("\n")) == (1, 1)


def consumers_of(verb: Any, queue: str) -> int:
    """As the broker counts them."""
    return next(int(one["consumers"]) for one in verb("inspect", "queues")["queues"] if one["queue"] == queue)


def test_reload_replaces_them_and_events_tell(verb: Any, environment: dict[str, str]) -> None:
    """It returns when all are of the next generation, and READY."""
    before = verb("status")["processes"]
    with running("events", environment=environment) as events:
        events.wait_for("listening")
        verb("reload")
        events.wait_for("process ready")
        events.send(signal.SIGINT)
        assert events.wait().code == 130
    after = verb("status")["processes"]
    assert [one["generation"] for one in after] == [one["generation"] + 1 for one in before]
    assert not {one["pid"] for one in after} & {one["pid"] for one in before}


def test_stop_ends_all_of_them(verb: Any, fleet: Program) -> None:
    """The parent's exit code is that of a drain; it stands last here."""
    assert verb("stop", "--wait")["ended"]
    assert fleet.wait().code == 0
