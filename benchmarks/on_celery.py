"""Celery on both kombus: a worker with two processes, and whoever sends it tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import psutil

from .cases import Task
from .meter import Meter, Sample
from .redis_info import Work

APPLICATION = "benchmarks.celery_app"
REPLY = 30.0
"""Seconds for the worker to answer to remote control."""


def delay(library: Any, task: Task) -> Sample:
    """``task.delay`` in a loop, and the end of its channel, which for us includes waiting for all confirms."""
    tasks = _tasks(library, task, Path())
    _delay(tasks, task.warm_up)
    meter = Meter.start()
    _delay(tasks, task.messages)
    with tasks.app.producer_or_acquire() as producer:
        producer.channel.close()
    return meter.stop(task.messages)


def work(library: Any, task: Task) -> Sample:
    """Tasks that wait in a queue, from the moment that a worker is told to consume from it."""
    return _work(library, task)[0]


def work_on_redis(library: Any, task: Task) -> Sample:
    """The same, with what it costs the server."""
    before = Work.now(task.url)
    sample, tasks = _work(library, task)
    return attrs.evolve(sample, **Work.now(task.url).since(before, tasks))


def _work(library: Any, task: Task) -> tuple[Sample, int]:
    """The sample, and how many tasks there were in all."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        pipe = Path(directory, "pipe")
        os.mkfifo(pipe)
        tasks = _tasks(library, task, pipe)
        # For writing, too: it does not end then when a task has written into it.
        with _worker(library) as worker, os.fdopen(os.open(pipe, os.O_RDWR)) as told:
            tasks.tell.delay()
            told.readline()  # it is there
            for count in (task.warm_up, task.messages):
                _control(tasks, "cancel_consumer", task.queue)
                _delay(tasks, count)
                tasks.tell.delay()
                before, began = _cpu(worker), time.perf_counter()
                _control(tasks, "add_consumer", task.queue)
                told.readline()
                seconds = time.perf_counter() - began
            main, children = (spent - earlier for spent, earlier in zip(_cpu(worker), before, strict=True))
    cpu = {"main": main / count * 1e6, "cpu": (main + children) / count * 1e6}
    return Sample(rate=count / seconds, **cpu), task.warm_up + task.messages


def _tasks(library: Any, task: Task, pipe: Path) -> Any:
    """The application's module, on the kombu that is measured."""
    if library.__name__ == "kombu_actors":
        import_module("kombu_actors.celery").install()
    os.environ.update(BENCH_BROKER=task.url, BENCH_QUEUE=task.queue, BENCH_PIPE=str(pipe))
    return import_module(APPLICATION)


def _delay(tasks: Any, count: int) -> None:
    for number in range(count):
        tasks.nothing.delay(number, "hello")


def _control(tasks: Any, verb: str, queue: str) -> None:
    (answer,) = getattr(tasks.app.control, verb)(queue, reply=True, timeout=REPLY, limit=1)
    (said,) = answer.values()
    assert "ok" in said, said


@contextmanager
def _worker(library: Any) -> Iterator[psutil.Process]:
    """A worker, which is ended as its users do."""
    celery = ["kombu_actors", "celery"] if library.__name__ == "kombu_actors" else ["celery"]
    options = ("worker", "--concurrency", "2", "--pool", "prefork", "--loglevel", "ERROR")
    command = [sys.executable, "-m", *celery, "-A", APPLICATION, *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(REPLY)
    finally:
        process.kill()
        process.wait()


def _cpu(worker: psutil.Process) -> tuple[float, float]:
    """Seconds of processor spent by the main process, and by the processes of its pool."""
    main, *children = (each.cpu_times() for each in (worker, *worker.children()))
    return main.user + main.system, sum(each.user + each.system for each in children)
