"""``kombu-actors run``: its exit codes, its signals, its flags, and what it says of mistakes."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from kombu_actors import Connection
from kombu_actors.cli.verbs import program
from tests.support.processes import free_port

from .program import HERE, run, running

READY = "is READY"


def publish(url: str, queue: str, payload: object) -> None:
    with Connection(url) as connection:
        connection.Producer().publish(payload, routing_key=queue, serializer="json")


def ready(url: str, queue: str) -> int:
    with Connection(url) as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)


def test_a_fleet_that_is_told_to_end_drains_and_exits_with_0(redis_url: str, tmp_path: Path) -> None:
    """The handler at work finishes, and the certificate says so, in the log and in the file."""
    file = tmp_path / "certificate.json"
    with running("run", "shop:fleet", "--certificate", str(file), environment={"SHOP_URL": redis_url}) as process:
        process.wait_for(READY)
        publish(redis_url, "shop.work", 0.3)
        process.wait_for("began")
        process.send(signal.SIGTERM)
        ended = process.wait()
    assert (ended.code, ended.out) == (0, "began\nended\n")
    certificate = json.loads(file.read_text())
    assert certificate["balanced"]
    assert not certificate["cold"]
    assert (certificate["queues"]["shop.work"]["received"], certificate["queues"]["shop.work"]["acked"]) == (1, 1)
    assert "1 received = 1 acked" in ended.err


def test_a_second_signal_ends_it_at_once_with_1_and_nothing_is_lost(redis_url: str) -> None:
    """The message of the handler that was cancelled is back in its queue, within two seconds."""
    with running("run", "shop:fleet", environment={"SHOP_URL": redis_url}) as process:
        process.wait_for(READY)
        publish(redis_url, "shop.work", 3600.0)
        process.wait_for("began")
        process.send(signal.SIGINT)
        process.wait_for("drains")
        began = time.monotonic()
        process.send(signal.SIGINT)
        ended = process.wait()
        took = time.monotonic() - began
    assert (ended.code, ended.out) == (1, "began\n")
    assert took < 2.0
    assert ready(redis_url, "shop.work") == 1


def test_past_its_drain_timeout_it_exits_with_1(redis_url: str) -> None:
    """Each flag has its twin in the environment."""
    environment = {"SHOP_URL": redis_url, "KOMBU_ACTORS_DRAIN_TIMEOUT": "0.2"}
    with running("run", "shop:fleet", environment=environment) as process:
        process.wait_for(READY)
        publish(redis_url, "shop.work", 3600.0)
        process.wait_for("began")
        process.send(signal.SIGTERM)
        assert process.wait().code == 1
    assert ready(redis_url, "shop.work") == 1


def test_without_a_broker_at_the_start_it_exits_with_3() -> None:
    """And says where it looked, without the password."""
    ended = run("run", "shop:fleet", "--url", f"amqp://guest:s3cret@127.0.0.1:{free_port()}//")
    assert ended.code == 3
    assert "has no broker" in ended.err
    assert "Connection refused" in ended.err
    assert "s3cret" not in ended.err


def test_when_supervision_gives_up_it_exits_with_70(redis_url: str) -> None:
    """Here for a queue that is there with other arguments: the last line says so."""
    with Connection(redis_url) as connection:
        connection.default_channel.queue_declare("shop.broken")
    ended = run("run", "shop:broken", environment={"SHOP_URL": redis_url})
    assert ended.code == 70
    assert "gave up" in ended.err
    assert "PRECONDITION_FAILED" in ended.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["run", "shop:flet"], "'shop' has no attribute 'flet'; its fleets: shop:fleet, shop:broken, shop:empty"),
        (["run", "shop"], "say which fleet of module 'shop' is meant"),
        (["run", "shop:not_a_fleet"], "'shop:not_a_fleet' is a int and no Fleet"),
        (["run", "schop:fleet"], "there is no module 'schop'"),
        (["run", "shop/fleet"], "names no fleet: say module:attribute"),
        (["run", "mistaken:fleet"], "importing 'mistaken' failed (mistaken.py, line 10): FleetMistake: "),
        (["run", "shop:empty"], "has nothing to do"),
        (["run", "shop:fleet", "-Q", "shop.wrok"], "has no consumer of shop.wrok, only of shop.work, shop.other"),
        (["run", "shop:fleet", "--url", "ampq://x"], "ampq"),
        (["run", "shop:fleet", "--drain-timeout", "-1"], "drain-timeout"),
        (["run", "shop:fleet", "--sped"], "--sped"),
        (["rnu", "shop:fleet"], "rnu"),
    ],
)
def test_a_mistake_is_a_line_and_exits_with_2(
    arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback: whoever runs it did not write it."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr("sys.path", [str(HERE), *sys.path])
    ended = CliRunner().invoke(program, arguments)
    said = ended.output + caplog.text
    assert ended.exit_code == 2
    assert text in " ".join(said.split())
    assert "Traceback" not in said


def test_the_process_exits_with_the_code() -> None:
    """As a service manager sees it."""
    ended = run("run", "shop:flet")
    assert ended.code == 2
    assert "its fleets: shop:fleet" in ended.err


def test_only_the_queues_that_were_asked_for(redis_url: str) -> None:
    """``-Q`` leaves the others to other processes; ``--log-json`` makes each line an object."""
    environment = {"SHOP_URL": redis_url}
    with running("run", "shop:fleet", "-Q", "shop.other", "--log-json", environment=environment) as process:
        process.wait_for(READY)
        publish(redis_url, "shop.other", "hello")
        process.wait_for("hello")
        process.send(signal.SIGTERM)
        ended = process.wait()
    lines = [json.loads(line) for line in ended.err.splitlines()]
    certificate = next(line for line in lines if "received" in line["message"])
    assert certificate["logger"] == "kombu_actors.fleet"
    assert certificate["level"] == "info"
    assert "shop.work" not in certificate["message"]


def test_explain_says_what_becomes_of_a_message() -> None:
    """The same as ``fleet.explain()``."""
    ended = run("explain", "shop:fleet")
    assert ended.code == 0
    assert "shop.work" in ended.out
    assert ended.err == ""


def test_help_names_what_there_is() -> None:
    """Every flag with its variable, every exit code."""
    ended = run("run", "--help")
    assert ended.code == 0
    for text in ("--drain-timeout", "KOMBU_ACTORS_DRAIN_TIMEOUT", "KOMBU_ACTORS_CERTIFICATE", "70", "second"):
        assert text in ended.out
