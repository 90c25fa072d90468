"""Feeds many queues from a process of its own: ``python -m benchmarks.feeder <url> <queues>``.

Declares the queues where they are missing, empties them, and writes a line.  Then for each number that it reads it
publishes as many messages, to one queue after the other, and writes a line.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from .cases import Task
from .meter import BODY

_kombu: Any = importlib.import_module("kombu")


def queue_names(count: int) -> list[str]:
    """The same queues for all runs: to make a durable one costs the broker's disk some milliseconds."""
    return [f"benchmarks-many-{number}" for number in range(count)]


@attrs.frozen
class Feeder:
    """The process, seen from the one that it feeds."""

    process: subprocess.Popen[bytes]

    def begin(self, messages: int) -> None:
        """Have it publish, and don't wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % messages)
        self.process.stdin.flush()

    def wait(self) -> None:
        """Wait until it has done what it was asked for."""
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise ChildProcessError("the feeder has ended")


@contextmanager
def feeding(task: Task) -> Iterator[Feeder]:
    """A feeder for the queues of a run, which are there and empty."""
    command = [sys.executable, "-m", "benchmarks.feeder", task.url, str(task.size)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        feeder = Feeder(process)
        feeder.wait()
        yield feeder
    finally:
        process.communicate()


def main(url: str, count: str) -> None:
    """Serve until the standard input ends."""
    names = queue_names(int(count))
    with _kombu.Connection(url) as connection:
        channel = connection.channel()
        for name in names:
            channel.queue_declare(name, durable=True, auto_delete=False, nowait=True)
            channel.queue_purge(name, nowait=True)
        channel.queue_declare(names[-1], passive=True)  # answered when all the others are done
        producer = _kombu.Producer(channel)
        print(flush=True)
        for line in sys.stdin:
            for number in range(int(line)):
                producer.publish(BODY, routing_key=names[number % len(names)], delivery_mode=1)
            print(flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
