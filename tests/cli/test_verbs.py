"""The verbs that see and steer a fleet, each as a process, with its exit code; one fleet answers most of them."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from .program import HERE, PATIENCE, Ended, Program, run, running


@contextmanager
def shop(runtime: Path, *arguments: str, url: str = "memory://shop") -> Iterator[Program]:
    """A fleet that runs, and is found by the verbs that have the same ``KOMBU_ACTORS_CONTROL``."""
    environment = {"SHOP_URL": url, "KOMBU_ACTORS_CONTROL": str(runtime)}
    with running("run", "shop:fleet", *arguments, environment=environment) as process:
        process.wait_for("is READY")
        yield process


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the control socket of a running fleet is."""
    path = tmp_path_factory.mktemp("runtime")
    with shop(path):
        yield path


@pytest.fixture
def verb(runtime: Path) -> Verb:
    """Run a verb about that fleet."""
    return Verb(runtime)


class Verb:
    """Runs verbs."""

    def __init__(self, runtime: Path) -> None:
        self.environment = {"KOMBU_ACTORS_CONTROL": str(runtime)}

    def __call__(self, *arguments: str) -> Ended:
        return run(*arguments, environment=self.environment)

    def json(self, *arguments: str) -> Any:
        """Its answer, of a verb that succeeds."""
        ended = self(*arguments, "-j")
        assert (ended.code, ended.err) == (0, "")
        return json.loads(ended.out)

    def text(self, *arguments: str) -> str:
        """What it prints, of a verb that succeeds."""
        ended = self(*arguments)
        assert (ended.code, ended.err) == (0, "")
        return ended.out

    def refused(self, *arguments: str) -> tuple[int, str]:
        """The exit code and the one line of a verb that fails."""
        ended = self(*arguments)
        assert ended.out == ""
        assert ended.err.count("\n") == 1
        return ended.code, ended.err


# -- seeing ----------------------------------------------------------------------------------------


def test_status_tells_verdict_processes_queues_and_the_socket(verb: Verb, runtime: Path) -> None:
    """For people and as JSON, with the path for ``--control``."""
    found = verb.json("status")
    assert (found["fleet"], found["state"], found["reasons"]) == ("shop", "ready", [])
    assert found["control"] == str(runtime / f"shop-{found['pid']}.sock")
    text = verb.text("status")
    for part in ("fleet 'shop' is READY", found["control"], "shop.work", "dead-lettered", "generation"):
        assert part in text


def test_health_exits_with_0_while_ready(verb: Verb) -> None:
    """What probes look at."""
    assert verb.text("health") == "fleet 'shop' is READY\n"
    assert verb.json("health") == {"fleet": "shop", "state": "ready", "ready": True, "reasons": []}
    assert verb("health", "--help").code == 0
    assert verb.refused("health", "--lively")[0] == 2


def test_health_exits_with_1_and_says_why_while_a_consumer_is_down(
    redis_url: str, tmp_path: Path, own_redis: Any
) -> None:
    """The broker is gone; ``--live`` is content, for a restart would not help."""
    node = own_redis()
    verb = Verb(tmp_path)
    with shop(tmp_path, url=node.url()):
        node.kill9()
        with following(verb, "events", "-j") as events:
            events.wait_for("child_backing_off")
        ended = verb("health")
        assert ended.code == 1
        assert "is DEGRADED" in ended.out
        assert "consuming" in ended.out
        assert verb("health", "--live").code == 0
        assert verb.refused("inspect", "queues")[0] == 3
        assert "backing off" in verb.text("inspect", "tree")
        left = [row["next_attempt_in"] for row in verb.json("inspect", "budgets")]
        assert any(seconds is not None for seconds in left)


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("tree", "shop.work: ready"),
        ("queues", "shop.work.dead"),
        ("consumers", "process 1  shop.work"),
        ("budgets", "work/consumers"),
    ],
)
def test_inspect_looks_closely(verb: Verb, what: str, part: str) -> None:
    """For people, and as JSON."""
    assert part in verb.text("inspect", what)
    assert json.dumps(verb.json("inspect", what))


def test_explain_asks_the_fleet_that_runs_or_the_one_that_is_named(verb: Verb) -> None:
    """The same text."""
    assert verb.text("explain") == verb.text("explain", "shop:fleet") == verb.json("explain")["text"] + "\n"


@contextmanager
def following(verb: Verb, *arguments: str) -> Iterator[Program]:
    """A verb that runs while the block does."""
    with running(*arguments, environment=verb.environment) as process:
        yield process


def test_events_are_told_as_they_happen(verb: Verb) -> None:
    """A line each, until Ctrl-C; or so many."""
    with following(verb, "events") as events, following(verb, "events", "--count", "1", "-j") as one:
        events.wait_for("listening")
        one.wait_for("listening")
        verb.text("pause", "shop.work")
        events.wait_for("[1] consumer paused work/consumers/shop.work queue=shop.work")
        verb.text("resume", "shop.work")
        events.wait_for("consumer resumed")
        events.send(signal.SIGINT)
        assert events.wait().code == 130
        ended = one.wait()
    assert ended.code == 0
    assert json.loads(ended.out)["process"] == 1


# -- steering --------------------------------------------------------------------------------------


def test_pause_and_resume(verb: Verb) -> None:
    """Messages wait meanwhile; the fleet stays READY."""
    assert "is paused" in verb.text("pause", "shop.other")
    assert verb.json("publish", "shop.other", '"waits"')["id"]
    assert depth(verb, "shop.other")["ready"] == 1
    assert "paused" in verb.text("status")
    assert verb("health").code == 0
    assert "1 message of queue 'shop.other' would be thrown away" in verb.text("purge", "shop.other", "--dry-run")
    code, line = verb.refused("purge", "shop.other")
    assert code == 2
    assert "say --yes" in line
    assert verb.json("purge", "shop.other", "--yes") == {"queue": "shop.other", "purged": 1, "dry_run": False}
    assert "goes on" in verb.text("resume", "shop.other")
    code, line = verb.refused("pause", "shop.nothing")
    assert code == 1
    assert "no consumer of queue 'shop.nothing'" in line


def depth(verb: Verb, queue: str) -> Any:
    """What ``inspect queues`` says of one."""
    return next(one for one in verb.json("inspect", "queues")["queues"] if one["queue"] == queue)


def test_restart_takes_a_path_of_the_tree(verb: Verb) -> None:
    """Its epoch grows by one."""
    before = epoch_of(verb, "work/consumers/shop.other")
    assert "is restarted" in verb.text("restart", "work/consumers/shop.other")
    assert epoch_of(verb, "work/consumers/shop.other") == before + 1
    code, line = verb.refused("restart", "work/nobody")
    assert code == 1
    assert "no actor 'work/nobody'" in line


def epoch_of(verb: Verb, path: str) -> int:
    """From the tree that ``inspect tree`` shows."""
    node = verb.json("inspect", "tree")[0]["tree"]
    for id in path.split("/"):
        node = next(child for child in node["children"] if child["id"] == id)
    return int(node["epoch"])


def test_reload_without_processes_says_what_to_do(verb: Verb) -> None:
    """There is nobody to replace the only process."""
    code, line = verb.refused("reload")
    assert code == 1
    assert "--processes" in line


def test_stop_drains_and_waits(tmp_path: Path) -> None:
    """The process exits with 0, and takes its socket along; then nobody answers."""
    verb = Verb(tmp_path)
    with shop(tmp_path) as process:
        assert "has ended" in verb.text("stop", "--wait")
        assert process.wait().code == 0
    assert list(tmp_path.iterdir()) == []
    for verb_of_all in (["status"], ["health"], ["top", "--once"], ["pause", "x"], ["dlq", "list", "x"], ["stop"]):
        code, line = verb.refused(*verb_of_all)
        assert code == 69
        assert "no fleet" in line


def test_stop_now_is_cold(tmp_path: Path) -> None:
    """A handler at work is cancelled, and the fleet's exit code says so."""
    verb = Verb(tmp_path)
    with shop(tmp_path) as process:
        verb.text("publish", "shop.work", "3600")
        process.wait_for("began")
        assert "shop.work" in verb.text("inspect", "consumers")
        verb.text("stop", "--now")
        assert process.wait().code == 1


# -- messages --------------------------------------------------------------------------------------


def test_publish_takes_json_text_or_standard_input(verb: Verb) -> None:
    """And prints the message's id; what can't be sent is one line."""
    assert verb.text("publish", "shop.other", '"one"', "--message-id", "first", "-H", "tenant=acme") == "first\n"
    assert verb.text("publish", "shop.other", "two", "--text")
    code, line = verb.refused("publish", "shop.other", "{")
    assert code == 2
    assert "no JSON" in line
    code, line = verb.refused("publish", "shop.nowhere", "3")
    assert code == 1
    assert "NO_ROUTE" in line


def test_dead_letters_are_listed_shown_dropped_and_replayed(verb: Verb) -> None:
    """What ``--where`` says is meant; nothing happens without ``--yes`` where nobody can be asked."""
    for number in range(3):
        verb.text("publish", "shop.other", f"[{number}]", "--message-id", f"dead-{number}", "-H", f"tenant=t{number}")
    assert depth(verb, "shop.other")["dead"] == 3
    listed = verb.json("dlq", "list", "shop.other", "--where", "payload.0>=1", "-w", "error=PayloadError")
    assert [letter["id"] for letter in listed["letters"]] == ["dead-1", "dead-2"]
    assert "undecodable" in verb.text("dlq", "list", "shop.other", "--limit", "1")
    shown = verb.text("dlq", "show", "shop.other", "dead-2")
    for part in ("tenant: t2", "[2]", "PayloadError"):
        assert part in shown
    assert verb.refused("dlq", "show", "shop.other", "dead-9")[0] == 1
    code, line = verb.refused("dlq", "drop", "shop.other")
    assert code == 2
    assert "Drop 3 dead letters" in line
    assert "1 dead letter of queue 'shop.other' would be dropped" in verb.text(
        "dlq", "drop", "shop.other", "-w", "header.tenant=t0", "--dry-run"
    )
    assert verb.json("dlq", "drop", "shop.other", "-w", "header.tenant=t0", "--yes")["dropped"] == 1
    assert "2 of 2 dead letters would be replayed" in verb.text("dlq", "replay", "shop.other", "--dry-run")
    replayed = verb.json("dlq", "replay", "shop.other", "--rate", "1000", "--limit", "1", "--yes")
    assert (replayed["replayed"], replayed["left"]) == (1, 1)
    assert verb.refused("dlq", "list", "shop.other", "-w", "colour=red")[0] == 2
    assert verb.refused("dlq", "list", "shop.nothing")[0] == 1


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_what_cant_be_undone_is_asked_at_a_terminal(verb: Verb, answer: str, code: int) -> None:
    """No is the default, and no is no."""
    verb.text("pause", "shop.work")
    verb.text("publish", "shop.work", "0")
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kombu_actors", "purge", "shop.work"],
        env={**os.environ, **verb.environment},
        stdin=follower,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(leader, f"{answer}\n".encode())
        _, err = process.communicate(timeout=PATIENCE)
    os.close(leader)
    os.close(follower)
    left = depth(verb, "shop.work")["ready"]
    verb.text("purge", "shop.work", "--yes")
    verb.text("resume", "shop.work")
    assert process.returncode == code
    assert "Throw away 1 message of queue 'shop.work', for good?" in err
    assert left == code


def test_messages_need_no_fleet_that_runs(redis_url: str, tmp_path: Path) -> None:
    """``--fleet module:attribute`` does it from here."""
    environment = {"SHOP_URL": redis_url, "KOMBU_ACTORS_FLEET": "shop:fleet"}
    verb = Verb(tmp_path)
    verb.environment = environment
    assert depth(verb, "shop.work")["ready"] is None
    code, line = verb.refused("publish", "shop.work", "0")
    assert (code, "NO_ROUTE" in line) == (1, True)
    code, line = verb.refused("dlq", "replay", "shop.work", "--yes")
    assert (code, "no queue 'shop.work.dead'" in line) == (1, True)
    code, line = verb.refused("status")
    assert (code, "by its name" in line) == (2, True)
    verb.environment = {**environment, "KOMBU_ACTORS_FLEET": "shop:flet"}
    assert verb.refused("inspect", "queues")[0] == 2


# -- which fleet -----------------------------------------------------------------------------------


def test_of_several_fleets_one_is_chosen_by_name_or_socket(verb: Verb, runtime: Path) -> None:
    """Otherwise the line names them; a socket at a place of one's own is found by its path alone."""
    own = runtime / "own.sock"
    with running(
        "run", "shop:fleet", "--control", str(own), environment={"SHOP_URL": "memory://", **verb.environment}
    ) as process:
        process.wait_for("is READY")
        assert verb.json("status", "--control", str(own))["pid"] == process.process.pid
        assert verb.json("status")["pid"] != process.process.pid
    with shop(runtime):
        code, line = verb.refused("status")
        assert code == 2
        assert line.count("shop (pid ") == 2
        assert verb.refused("health")[0] == 2
    assert verb.refused("status", "--fleet", "other")[0] == 69
    assert verb.json("status", "--fleet", "shop")["fleet"] == "shop"
    assert verb.refused("status", "--control", str(runtime / "nobody.sock"))[0] == 69


def test_without_a_control_socket(tmp_path: Path) -> None:
    """``--control ''`` is none; a place where none can be is said before anything is consumed."""
    with running("run", "shop:fleet", "--control", "", environment={"XDG_RUNTIME_DIR": str(tmp_path)}) as process:
        process.wait_for("is READY")
        assert list(tmp_path.iterdir()) == []
    ended = run("run", "shop:fleet", "--control", str(tmp_path / ("x" * 120)))
    assert ended.code == 2
    assert "may have 107 bytes" in ended.err
    (tmp_path / "kombu-actors").write_text("in the way")
    with running("run", "shop:fleet", environment={"XDG_RUNTIME_DIR": str(tmp_path)}) as process:
        process.wait_for("no control socket")
        process.wait_for("is READY")


def test_a_process_that_hangs_is_nobody(tmp_path: Path) -> None:
    """Its socket is there, and it says nothing within the time."""
    verb = Verb(tmp_path)
    with shop(tmp_path) as process:
        process.send(signal.SIGSTOP)
        code, line = verb.refused("health", "--timeout", "0.2")
        assert code == 69
        assert "has not answered for 0.2 s" in line
        process.send(signal.SIGCONT)
        assert verb("health").code == 0


def test_help_teaches_every_verb() -> None:
    """Each verb is named in the help, and has one of its own; a mistake is one line."""
    ended = run("--help")
    assert ended.code == 0
    for part in ("--fleet NAME", "69", "_KOMBU_ACTORS_COMPLETE", "doctor"):
        assert part in ended.out
    for arguments in (["rnu"], ["pause"], ["status", "--sped"], ["dlq", "sho"]):
        ended = run(*arguments)
        assert (ended.code, ended.err.count("\n")) == (2, 1)


def test_completion_knows_the_verbs() -> None:
    """As the shell asks for it."""
    environment = {"_KOMBU_ACTORS_COMPLETE": "bash_complete", "COMP_WORDS": "kombu-actors he", "COMP_CWORD": "1"}
    assert run(environment=environment).out == "plain,health\n"


def test_top_shows_a_frame_where_there_is_no_terminal(verb: Verb) -> None:
    """Tree, rates, depths, and what is in hand with its age; as JSON, too."""
    verb.text("publish", "shop.work", "3600", "--message-id", "long")
    ended = verb("top", "--once")
    assert (ended.code, ended.err) == (0, "")
    for part in ("fleet 'shop' is READY", "received/s", "long", "shop.work: ready", "retrying by delay"):
        assert part in ended.out
    found = json.loads(verb.text("top", "-j"))
    assert found["depths"]["queues"][0]["queue"] == "shop.work"


def test_top_goes_on_at_a_terminal_until_ctrl_c(verb: Verb) -> None:
    """Frame after frame, with rates from the second one on; the terminal is given back."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kombu_actors", "top", "--interval", "0.1"],
        env={**os.environ, **verb.environment, "TERM": "xterm", "COLUMNS": "160", "LINES": "60"},
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(follower)
        shown = b""
        while shown.count(b"received/s") < 3:
            shown += os.read(leader, 65536)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            while chunk := os.read(leader, 65536):
                shown += chunk
        _, err = process.communicate(timeout=PATIENCE)
    os.close(leader)
    assert (process.returncode, err.strip()) == (130, b"")
    assert b"0.0" in shown
    assert shown.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")


def test_a_probe_imports_next_to_nothing() -> None:
    """It is run every few seconds, and costs little more than Python's own start."""
    dear = "{'attrs', 'click', 'trio', 'typing'}"
    code = f"import sys, kombu_actors.cli, kombu_actors.cli.probe; print(*{dear} & {{*sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
