"""Where the runs take place: a private broker, a fresh queue for each, and a count afterwards."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.support.rabbitmq import RabbitMQNode

from .cases import Case, Contender, Start, Task
from .meter import BODY, Sample

RUN_TIMEOUT = 120.0
"""Seconds for one run: the slowest takes about ten, and two minutes on a machine that is very busy."""
ROOT = Path(__file__).resolve().parent.parent
_kombu: Any = importlib.import_module("kombu")  # annotated in part only, which --strict refuses


class RunFailed(Exception):
    """A contender did not do its task; says what happened instead."""


class NoYard:
    """Runs contenders that need no broker."""

    def run(self, case: Case, contender: Contender, messages: int, warm_up: int, size: int) -> Sample:
        """One run; raises ``RunFailed`` when it ended with an error or not in time."""
        return in_process_of_its_own(contender, Task("", f"benchmarks-{case.name}", messages, warm_up, size))


@contextmanager
def open_no_yard() -> Iterator[tuple[NoYard, str]]:
    """As ``open_yard``, without a broker."""
    yield NoYard(), "no broker"


class Yard:
    """Runs contenders, one at a time, against one broker.  Get it from ``open_yard``."""

    def __init__(self, url: str, connection: Any) -> None:
        self._url = url
        self._connection = connection
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_confirm)
        self._published = self._confirmed = 0

    def run(self, case: Case, contender: Contender, messages: int, warm_up: int, size: int) -> Sample:
        """One run.

        Raises:
            RunFailed: it ended with an error, not in time, or left other messages behind than it should.
        """
        task = Task(self._url, f"benchmarks-{case.name}-{uuid.uuid4().hex[:8]}", messages, warm_up, size)
        self._channel.queue_declare(task.queue, durable=True, auto_delete=False)
        try:
            if case.start is Start.FULL:
                self._put(task.queue, messages + warm_up)
            sample = in_process_of_its_own(contender, task)
            self._count(task.queue, messages + warm_up if case.start is Start.EMPTY else 0)
        finally:
            self._channel.queue_delete(task.queue)
        return sample

    def _put(self, queue: str, messages: int) -> None:
        """Publish with kombu, and wait until the broker has confirmed all."""
        producer = _kombu.Producer(self._channel)
        for _ in range(messages):
            producer.publish(BODY, routing_key=queue, delivery_mode=2)
        self._published += messages
        while self._confirmed < self._published:
            self._connection.drain_events(timeout=30)

    def _on_confirm(self, tag: int, multiple: bool) -> None:
        self._confirmed = max(self._confirmed, tag)

    def _count(self, queue: str, expected: int) -> None:
        # A queue answers questions before it works off what it was sent; not so a message it confirms.
        self._put(queue, 1)
        found = self._channel.queue_declare(queue, passive=True).message_count - 1
        if found != expected:
            raise RunFailed(f"the queue holds {found} messages where {expected} should be")


@contextmanager
def open_yard() -> Iterator[tuple[Yard, str]]:
    """Start a broker in a temporary directory; yields the yard and which broker it is."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        node = RabbitMQNode(Path(directory))
        try:
            node.start()
            version = node.eval("element(3, lists:keyfind(rabbit, 1, application:which_applications()))")
            with _kombu.Connection(node.url(), heartbeat=0) as connection:
                yield Yard(node.url(), connection), f"RabbitMQ {version.strip(chr(34))} (one scheduler)"
        finally:
            node.close()


def in_process_of_its_own(contender: Contender, task: Task) -> Sample:
    """Run a contender's program; its sample."""
    run = {"program": contender.program, "library": contender.library, "task": attrs.asdict(task)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(run)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stderr or b"").decode(errors="replace")[-2000:]
        raise RunFailed(f"not done within {RUN_TIMEOUT:g} s\n{printed}") from None
    if done.returncode:
        raise RunFailed(f"ended with status {done.returncode}\n{done.stderr[-2000:]}")
    return Sample(**json.loads(done.stdout))
