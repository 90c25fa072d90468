"""``kombu-actors run --processes``: exit codes, signals, and that no process is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from kombu_actors import Connection, Queue
from kombu_actors.cli.verbs import program
from tests.support.processes import free_port, wait_until

from .program import HERE, PATIENCE, Program, run, running
from .test_run import publish, ready

READY = "is READY, in 2 processes"


def workers(process: Program) -> list[psutil.Process]:
    """The processes below a program."""
    return psutil.Process(process.process.pid).children(recursive=True)


def heard(manager: socket.socket, line: str) -> list[str]:
    """The lines of the datagram that has this one; those before it are read."""
    while True:
        lines = manager.recv(4096).decode().split("\n")
        if line in lines:
            return lines


def left(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_signal_drains_all_processes_and_the_exit_code_is_0(redis_url: str, tmp_path: Path) -> None:
    """Handlers at work finish; the certificate is the sum."""
    file = tmp_path / "certificate.json"
    arguments = ("run", "shop:fleet", "-p", "2", "--certificate", str(file))
    with running(*arguments, environment={"SHOP_URL": redis_url}) as process:
        process.wait_for(READY)
        below = workers(process)
        assert len(below) == 2
        for _ in range(2):
            publish(redis_url, "shop.work", 0.3)
        process.wait_for("began")
        process.send(signal.SIGTERM)
        ended = process.wait()
    assert ended.code == 0
    assert ended.out.count("began") == ended.out.count("ended")
    assert left(below) == []
    certificate = json.loads(file.read_text())
    assert (certificate["balanced"], certificate["cold"], certificate["deaths"]) == (True, False, 0)
    assert certificate["queues"]["shop.work"]["acked"] == ended.out.count("ended")
    assert "[1] kombu_actors.fleet: fleet 'shop' is READY" in ended.err


def test_a_second_signal_cancels_handlers_in_all_processes(redis_url: str) -> None:
    """Exit code 1 within two seconds; messages are back."""
    with running("run", "shop:fleet", "-p", "2", environment={"SHOP_URL": redis_url}) as process:
        process.wait_for(READY)
        publish(redis_url, "shop.work", 3600.0)
        process.wait_for("began")
        process.send(signal.SIGTERM)
        process.wait_for("drains")
        began = time.monotonic()
        process.send(signal.SIGTERM)
        ended = process.wait()
        took = time.monotonic() - began
    assert (ended.code, ended.out) == (1, "began\n")
    assert took < 2.0
    assert ready(redis_url, "shop.work") == 1


def test_no_process_outlives_a_parent_that_is_killed(redis_url: str) -> None:
    """kill -9 of the parent: two seconds later nobody is left, and what was at work is back in its queue."""
    with running("run", "shop:fleet", "-p", "2", environment={"SHOP_URL": redis_url}) as process:
        process.wait_for(READY)
        below = workers(process)
        publish(redis_url, "shop.work", 3600.0)
        process.wait_for("began")
        process.send(signal.SIGKILL)
        wait_until(lambda: not left(below), timeout=2.0, waiting_for="the end of the workers")


def test_what_no_start_cures_ends_the_parent_with_the_workers_code(redis_url: str) -> None:
    """3 without a broker, 2 for a fleet that can't work, 70 when starting fails again and again."""
    dead = f"redis://:s3cret@127.0.0.1:{free_port()}/0"
    ended = run("run", "shop:fleet", "-p", "2", environment={"SHOP_URL": dead})
    assert ended.code == 3
    assert "s3cret" not in ended.err
    assert run("run", "shop:empty", "-p", "1").code == 2


def test_a_process_that_fails_at_every_start_spends_the_budget(redis_url: str) -> None:
    """Exit code 70, and the last line says so."""
    environment = {"SHOP_URL": redis_url, "KOMBU_ACTORS_MAX_RESTARTS": "1", "KOMBU_ACTORS_PROCESSES": "1"}
    with running("run", "shop:fleet", environment=environment) as process:
        process.wait_for("is READY, in 1 processes")
        for number in range(2):
            process.wait_for_count("is READY\n", number + 1)
            os.kill(workers(process)[0].pid, signal.SIGKILL)
        ended = process.wait()
    assert ended.code == 70
    assert "gave up" in ended.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-p", "0"], "-p"),
        (["--max-messages", "10"], "give -p, too"),
        (["-p", "1", "--max-memory", "lots"], "'lots' is no number of bytes, such as 512M or 2G"),
    ],
)
def test_a_wrong_flag_is_a_line(arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2."""
    monkeypatch.chdir(HERE)
    ended = CliRunner().invoke(program, ["run", "shop:fleet", *arguments])
    assert ended.exit_code == 2
    assert text in " ".join(ended.output.split())


def test_hup_replaces_all_processes(redis_url: str, tmp_path: Path) -> None:
    """The parent stays; the workers are others; and systemd, which sent the signal, hears when they are."""
    notify = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(PATIENCE)
        environment = {"SHOP_URL": redis_url, "NOTIFY_SOCKET": str(notify)}
        with running("run", "shop:fleet", "-p", "2", environment=environment) as process:
            heard(manager, "READY=1")
            before = workers(process)
            hup = time.monotonic_ns() // 1000
            process.send(signal.SIGHUP)
            lines = heard(manager, "RELOADING=1")
            (told,) = [line.removeprefix("MONOTONIC_USEC=") for line in lines if line.startswith("MONOTONIC_USEC=")]
            assert hup <= int(told) <= time.monotonic_ns() // 1000
            heard(manager, "READY=1")
            assert left(before) == []
            assert len(workers(process)) == 2
            process.send(signal.SIGTERM)
            heard(manager, "STOPPING=1")
            assert process.wait().code == 0


def test_a_burst_handles_what_is_there_and_ends(redis_url: str) -> None:
    """By itself, with exit code 0; nothing is left in the queues."""
    for text in ("one", "two"):
        with Connection(redis_url) as connection:
            connection.Producer().publish(
                text, routing_key="shop.other", serializer="json", declare=[Queue("shop.other")]
            )
    ended = run("run", "shop:fleet", "-p", "1", "--burst", environment={"SHOP_URL": redis_url})
    assert ended.code == 0
    assert sorted(ended.out.split()) == ["one", "two"]
    assert ready(redis_url, "shop.other") == 0
