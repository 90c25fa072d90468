"""Scenarios of remote control, events, and what a worker does beside its tasks."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from .ground import HOST, PATIENCE, Ground, celery_module
from .table import got, scenario

exceptions = celery_module("celery.exceptions")
LIFE = {"task-sent", "task-received", "task-started", "task-succeeded"}
REPLY = 10.0
"""Seconds for an answer; ``limit=1`` ends the wait with the first."""


def inspect(ground: Ground) -> Any:
    """Celery's ``inspect`` of the one worker."""
    return ground.app.control.inspect(destination=[HOST], timeout=REPLY, limit=1)


@scenario()
def ping(ground: Ground, name: str) -> None:
    """The worker answers."""
    assert inspect(ground).ping() == {HOST: {"ok": "pong"}}


@scenario()
def statistics(ground: Ground, name: str) -> None:
    """``stats`` has the broker and the pool."""
    stats = inspect(ground).stats()[HOST]
    assert stats["broker"]["transport"] == ("redis" if ground.broker == "redis" else "amqp")
    assert stats["prefetch_count"] > 0
    assert stats["total"]["add"] > 0


@scenario()
def registered(ground: Ground, name: str) -> None:
    """``registered``, ``active_queues``, ``conf``, ``report``."""
    assert "add" in inspect(ground).registered()[HOST]
    assert {queue["name"] for queue in inspect(ground).active_queues()[HOST]} >= {"celery", "other"}
    assert inspect(ground).conf()[HOST]["task_default_queue"] == "celery"
    assert "celery" in inspect(ground).report()[HOST]["ok"]


@scenario(pools="prefork threads gevent")
def active(ground: Ground, name: str) -> None:
    """What runs is ``active``, what waits for its time ``scheduled``, what waits for a slot ``reserved``."""
    with ground.diary.hold():
        later = ground.tasks.note.apply_async((f"{name}-later",), countdown=120)
        running = [ground.tasks.note.delay(f"{name}-{number}", 0.0, True) for number in range(4)]
        ground.until(lambda: len(ground.diary.read(name)) == 2, "two to run")
        assert {task["id"] for task in inspect(ground).active()[HOST]} <= {one.id for one in running}
        assert [task["request"]["id"] for task in inspect(ground).scheduled()[HOST]] == [later.id]
        ground.until(lambda: inspect(ground).reserved()[HOST], "others to have come")
        assert later.id in inspect(ground).query_task(later.id)[HOST]
        later.revoke()
    for one in running:
        got(one)


@scenario()
def revoke(ground: Ground, name: str) -> None:
    """A revoked task does not run; its id may be revoked before it is sent."""
    identity = f"id-{name}"
    ground.app.control.revoke(identity, reply=True, timeout=REPLY, destination=[HOST])
    with pytest.raises(exceptions.TaskRevokedError):
        got(ground.tasks.note.apply_async((name,), task_id=identity))
    assert identity in inspect(ground).revoked()[HOST]
    assert not ground.diary.read(name)


@scenario(pools="prefork")
def terminate(ground: Ground, name: str) -> None:
    """``revoke(terminate=True)`` ends it while it runs; the pool has another process for the next."""
    running = ground.tasks.note.delay(name, 30.0)
    ground.until(lambda: ground.diary.read(name), "it to run")
    running.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises((exceptions.TaskRevokedError, exceptions.WorkerLostError)):
        got(running)
    assert [got(one) for one in [ground.tasks.add.delay(1, 1) for _ in range(10)]] == [2] * 10


@scenario(pools="prefork")
def time_limits(ground: Ground, name: str) -> None:
    """The soft limit is an exception in the task, the hard one its end."""
    soft = ground.tasks.note.apply_async((f"{name}-soft", 30.0), soft_time_limit=1)
    with pytest.raises(exceptions.SoftTimeLimitExceeded):
        got(soft)
    hard = ground.tasks.note.apply_async((f"{name}-hard", 30.0), time_limit=1)
    with pytest.raises(exceptions.TimeLimitExceeded):
        got(hard)
    assert got(ground.tasks.add.delay(1, 1)) == 2


@scenario()
def rate_limit(ground: Ground, name: str) -> None:
    """``rate_limit`` holds from then on, and is taken back."""
    control = ground.app.control
    control.rate_limit("limited", "4/s", reply=True, destination=[HOST], timeout=REPLY)
    for number in range(5):
        ground.tasks.limited.delay(f"{name}-{number}")
    ground.until(lambda: len(ground.diary.counts(name)) == 5, "five of them")
    at = [entry.at for entry in ground.diary.read(name) if entry.stage == "began"]
    assert at[-1] - at[0] >= 0.7
    control.rate_limit("limited", "100/s", reply=True, destination=[HOST], timeout=REPLY)


@scenario(pools="prefork threads gevent")
def pool_size(ground: Ground, name: str) -> None:
    """``pool_grow`` and ``pool_shrink``."""
    control = ground.app.control
    if ground.pool == "prefork":
        assert "ok" in control.pool_grow(1, reply=True, destination=[HOST], timeout=REPLY)[0][HOST]
        ground.until(lambda: len(ground.children()) >= 3, "a third process")
        assert "ok" in control.pool_shrink(1, reply=True, destination=[HOST], timeout=REPLY)[0][HOST]
    assert got(ground.tasks.add.delay(1, 1)) == 2


@scenario()
def consumers(ground: Ground, name: str) -> None:
    """A queue is consumed from when told so, and no more when told so."""
    control, queue = ground.app.control, f"{name}-queue"
    sent = ground.tasks.note.apply_async((f"{name}-1",), queue=queue)
    answer = control.add_consumer(queue, reply=True, destination=[HOST], timeout=REPLY)
    assert "ok" in answer[0][HOST]
    got(sent)
    answer = control.cancel_consumer(queue, reply=True, destination=[HOST], timeout=REPLY)
    assert "ok" in answer[0][HOST]
    ground.until(
        lambda: queue not in {one["name"] for one in inspect(ground).active_queues()[HOST]},
        "it to be so: the worker answers before",
    )
    ground.tasks.note.apply_async((f"{name}-2",), queue=queue)
    got(ground.tasks.add.delay(1, 1))
    assert ground.diary.counts(name) == {f"{name}-1": 1}
    with ground.app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge(queue) == 1


@scenario()
def events(ground: Ground, name: str) -> None:
    """Whoever captures events hears a task's life, sender's and worker's, and heartbeats."""
    heard: list[dict[str, Any]] = []
    listening, told = threading.Event(), threading.Event()

    def listen() -> None:
        with ground.app.connection_for_read() as connection:
            receiver = ground.app.events.Receiver(connection, handlers={"*": heard.append})
            with receiver.consumer_context(wakeup=True) as (receiving, _, _):
                listening.set()
                while not told.is_set():
                    try:
                        receiving.drain_events(timeout=0.5)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert listening.wait(PATIENCE)
    sent = ground.tasks.add.delay(1, 1)
    got(sent)

    def kinds() -> set[str]:
        return {one["type"] for one in list(heard) if one.get("uuid") in (sent.id, None)}

    ground.until(lambda: {"worker-heartbeat", *LIFE} <= kinds(), "the task's life, and a heartbeat")
    told.set()
    thread.join(PATIENCE)
    assert {kind for kind in kinds() if kind.startswith("task-")} == LIFE


@scenario()
def beat(ground: Ground, name: str) -> None:
    """``celery beat`` sends what its schedule says."""
    directory = ground.directory / "beat"
    beat = ground.program(
        "beat", "beat", "-l", "INFO", "-s", str(directory / "schedule"), "--pidfile=", until="Sending due task"
    )
    before = len(ground.diary.read("beat"))
    beat.start()
    try:
        ground.until(lambda: len(ground.diary.read("beat")) >= before + 6, "three beats")
    finally:
        beat.stop(PATIENCE)


@scenario(pools="prefork", lengthy=True)
def mixed(ground: Ground, name: str) -> None:
    """A worker on each kombu, on one queue: both work, every task is run once, both answer to remote control."""
    host = "other@scenarios"
    other = ground.start_worker(host, switched=not ground.switched)
    assert ("is in kombu's place" in other.output) == (not ground.switched)
    with ground.diary.hold():  # 24 are more than either is sent at a time
        results = [ground.tasks.note.delay(f"{name}-{number}", 0.0, True) for number in range(24)]
        ground.until(lambda: len(ground.diary.counts(name, "began")) == 4, "both workers' processes to be busy")
    assert sorted(map(got, results)) == sorted(f"{name}-{number}" for number in range(24))
    assert set(ground.diary.counts(name, "began").values()) == {1}
    answers = ground.app.control.ping(timeout=REPLY, limit=2)
    assert {one for answer in answers for one in answer} == {HOST, host}
    other.stop(30)


@scenario(lengthy=True)
def multi(ground: Ground, name: str) -> None:
    """``celery multi`` starts a worker as a daemon, which is switched as its parent is."""
    directory = ground.directory / "multi"
    directory.mkdir(exist_ok=True)
    common = (f"--pidfile={directory}/%n.pid", f"--logfile={directory}/%n%I.log", "-Q", "daemons", "-P", ground.pool)
    host = "daemon@scenarios"
    ground.run("multi", "start", host, *common, "-l", "INFO", "-c", "1")
    try:
        info = got(ground.tasks.seen.apply_async(queue="daemons"))
        assert info["kombu"].startswith("kombu_actors") == ground.switched
    finally:
        ground.run("multi", "stopwait", host, *common)
    assert not list(Path(directory).glob("*.pid"))


@scenario(lengthy=True)
def command_line(ground: Ground, name: str) -> None:
    """``celery inspect``, ``status`` and ``call`` as programs."""
    assert "pong" in ground.run("inspect", "ping", "-t", "10")
    assert HOST in ground.run("status", "-t", "10")
    ground.run("call", "note", "-a", f'["{name}"]')
    ground.until(lambda: ground.diary.counts(name) == {name: 1}, "the task of the command line")


@scenario(lengthy=True)
def warm_shutdown(ground: Ground, name: str) -> None:
    """TERM lets what runs finish; what waits is for the next worker."""
    host = "second@scenarios"
    second = ground.start_worker(host, "-Q", "leaving", "--prefetch-multiplier", "4")
    for number in range(6):
        ground.tasks.note.apply_async((f"{name}-{number}", 1.0), queue="leaving")
    ground.until(lambda: ground.diary.read(name), "one to run")
    began = time.monotonic()
    second.stop(30)
    assert time.monotonic() - began < 20
    began_then = ground.diary.counts(name, "began")
    assert ground.diary.counts(name) == began_then, "what had begun was to end"
    third = ground.start_worker("third@scenarios", "-Q", "leaving")
    ground.until(lambda: len(ground.diary.counts(name)) == 6, "the rest")
    third.stop(30)
    assert set(ground.diary.counts(name).values()) == {1}
    assert os.getpid() not in {entry.pid for entry in ground.diary.read(name)}
