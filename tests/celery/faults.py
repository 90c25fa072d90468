"""Scenarios of faults: what breaks in the middle, and what must have happened to every task in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

import pytest

from .diary import Entry
from .ground import Ground, celery_module
from .table import got, scenario

exceptions = celery_module("celery.exceptions")
RECOVERY = 60.0
"""Seconds for what follows a fault: a broker's restart, Celery's own waiting between attempts."""
TASKS = 16
FREE = 4
"""Of them run before the fault; those that follow don't end until after it."""
RUNNING = {"prefork": 2, "solo": 1, "threads": 2, "gevent": 2}
"""At a time (``-c 2``)."""
PREFETCH = 8
"""What a worker is sent at first beside what it has acknowledged (``-c 2``, and a multiplier of 4)."""


def under_load(ground: Ground, name: str, fault: Callable[[], object], task: Any) -> tuple[set[str], set[str]]:
    """Break something while some tasks run, some wait in the worker and some at the broker; then all must end.

    At the fault nothing begins or ends, and the broker says that it has heard of all that the worker could
    acknowledge.  Returns which tasks it has heard of, and which may run again: all that the broker must deliver again
    and Celery can't take back.
    """
    late = bool(task.acks_late) or ground.pool == "solo"  # solo acknowledges when the task is done, whatever it says
    names = [f"{name}-{number:02}" for number in range(TASKS)]
    room = prefetch(ground)
    with ground.diary.hold():
        for number, one in enumerate(names):
            task.apply_async((one, 0.1, number >= FREE), ignore_result=True)
        begun = FREE + RUNNING[ground.pool]
        ground.until(lambda: len(ground.diary.counts(name, "began")) == begun, "tasks to be running")
        heard = FREE if late else begun
        sent = heard + room
        ground.until(lambda: ground.waiting("celery") == TASKS - sent, "the broker to hear of what is acknowledged")
        connected, dialled = ground.times_connected(), ground.proxy.accepted + ground.proxy.open
        fault()
        if ground.pool in ("prefork", "threads"):
            ground.until(lambda: ground.times_connected() > connected, "the worker to hear of it", timeout=RECOVERY)
        elif ground.switched:  # the others are busy, but every connection is dialled again meanwhile
            ground.proxy.wait_accepted(dialled, timeout=RECOVERY)
    ground.until(lambda: len(ground.diary.counts(name)) == TASKS, "all tasks to end", timeout=RECOVERY)
    assert_works(ground, name)
    taken_back = begun if ground.pool in ("prefork", "solo") else sent  # executors keep what waits for them
    return {*names[:heard]}, {*names[heard:taken_back]}


def prefetch(ground: Ground) -> int:
    """What the worker is sent beside what it has acknowledged and what waits for its time.

    With solo Celery takes itself for one process, whatever ``-c`` says, from the first loss on.
    """
    return PREFETCH // 2 if ground.pool == "solo" and ground.times_connected() > 1 else PREFETCH


def assert_works(ground: Ground, name: str) -> None:
    """The worker does a task; not told by its result, for where that is kept may have been killed as well."""
    ground.tasks.note.apply_async((f"after-{name}",), ignore_result=True)
    ground.until(lambda: ground.diary.counts(f"after-{name}"), "one more task", timeout=RECOVERY)


def twice(ground: Ground, name: str) -> dict[str, list[Entry]]:
    """Which tasks have begun more than once, and when."""
    again = [one for one, count in ground.diary.counts(name, "began").items() if count > 1]
    return {one: [entry for entry in ground.diary.read(name) if entry.name == one] for one in again}


def assert_once(ground: Ground, name: str, but: Set[str] = frozenset()) -> None:
    """No task has begun twice, but for those."""
    again = twice(ground, name)
    assert again.keys() <= but, (again, but)


@scenario()
def reset(ground: Ground, name: str) -> None:
    """All connections are reset under load: no task is lost, and none runs twice that the worker can take back.

    With prefork those are all: a task that begins while the reset is under way, which might run again, there is none.
    """
    _, again = under_load(ground, name, ground.proxy.reset, ground.tasks.note)
    assert_once(ground, name, but=again)


@scenario()
def reset_of_waiting(ground: Ground, name: str) -> None:
    """A reset while tasks wait for their time: each runs once, and in its time."""
    for number in range(5):
        ground.tasks.note.apply_async((f"{name}-{number}",), countdown=3.0, ignore_result=True)
    got(ground.tasks.add.delay(1, 1))
    connected = ground.times_connected()
    ground.proxy.reset()

    def done() -> bool:
        return len(ground.diary.counts(name)) == 5

    ground.until(lambda: ground.times_connected() > connected or done(), "the worker to hear of it", timeout=RECOVERY)
    late = {*ground.diary.counts(name, "began")}  # of a machine so busy that their time came before the worker heard
    ground.until(done, "the delayed tasks", timeout=RECOVERY)
    got(ground.tasks.add.delay(1, 1))
    assert_once(ground, name, but=late)


@scenario()
def idle_reset(ground: Ground, name: str) -> None:
    """An idle worker hears again after each of three resets, control included."""
    for _ in range(3):
        ground.proxy.reset()
        assert got(ground.tasks.add.delay(1, 1)) == 2
    ground.until(lambda: ground.app.control.ping(timeout=2.0, limit=1), "an answer", timeout=RECOVERY)


@scenario(lengthy=True)
def reset_late(ground: Ground, name: str) -> None:
    """A reset under tasks that are acknowledged late: none is lost; those that ran then may run again."""
    _, again = under_load(ground, name, ground.proxy.reset, ground.tasks.late)
    assert_once(ground, name, but=again)


@scenario(pools="prefork")
def child_killed(ground: Ground, name: str) -> None:
    """A pool's process is killed: its task fails, or runs again when it is acknowledged late; no other is touched."""
    lost = ground.tasks.note.delay(f"{name}-lost", 30.0)
    ground.until(lambda: ground.diary.read(f"{name}-lost"), "it to run")
    ground.stop_child(ground.diary.read(f"{name}-lost")[0].pid)
    with pytest.raises(exceptions.WorkerLostError):
        got(lost)
    names = [f"{name}-late{number}" for number in range(20)]
    for one in names:
        ground.tasks.late.apply_async((one, 0.1), ignore_result=True)
    ground.until(lambda: ground.diary.read(f"{name}-late"), "one to run")
    victim = ground.diary.read(f"{name}-late")[-1]
    ground.stop_child(victim.pid)
    ground.until(lambda: len(ground.diary.counts(f"{name}-late")) == 20, "all to end", timeout=RECOVERY)
    again = twice(ground, f"{name}-late")
    died_in = {entry.name for entry in ground.diary.read(name) if entry.pid == victim.pid}
    assert set(again) <= died_in
    assert len(again) <= 1


@scenario(lengthy=True)
def worker_killed(ground: Ground, name: str) -> None:
    """The whole worker is killed; another one does what ran then once more, and all that waited."""
    host = "victim@scenarios"
    options = ("-Q", "dying")
    victim = ground.start_worker(host, *options)
    names = [f"{name}-{number:02}" for number in range(TASKS)]
    with ground.diary.hold():
        for number, one in enumerate(names):
            ground.tasks.late.apply_async((one, 0.1, number >= FREE), queue="dying", ignore_result=True)
        begun = FREE + RUNNING[ground.pool]
        ground.until(lambda: len(ground.diary.counts(name, "began")) == begun, "tasks to be running")
        left = TASKS - FREE - PREFETCH
        ground.until(lambda: ground.waiting("dying") == left, "the broker to hear of what is acknowledged")
        victim.kill9()
    heir = ground.start_worker("heir@scenarios", *options)
    ground.until(lambda: len(ground.diary.counts(name)) == TASKS, "the rest", timeout=RECOVERY)
    heir.stop(30)
    assert_once(ground, name, but={*names[FREE:begun]})


@scenario(lengthy=True, kills=True)
def broker_killed(ground: Ground, name: str) -> None:
    """The broker is killed and started again: no task is lost; none runs twice whose acknowledgement is on the disk.

    RabbitMQ writes those some time later.
    """
    node = ground.node
    assert node is not None

    def kill() -> None:
        node.kill9()
        node.start()

    heard, again = under_load(ground, name, kill, ground.tasks.note)
    assert_once(ground, name, but=heard | again if ground.broker == "rabbitmq" else again)


@scenario(lengthy=True, kills=True)
def published_meanwhile(ground: Ground, name: str) -> None:
    """What is published while the broker is down arrives, or its publisher is told."""
    node = ground.node
    assert node is not None
    node.kill9()
    failed: Sequence[BaseException] = ()
    try:
        ground.tasks.note.apply_async((f"{name}-down",), retry=False, ignore_result=True)
    except Exception as error:
        failed = [error]
    node.start()
    assert_works(ground, name)
    if not failed:
        ground.until(lambda: ground.diary.counts(name), "what was accepted", timeout=RECOVERY)
