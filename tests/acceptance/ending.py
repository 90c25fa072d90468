"""A program that publishes and ends without ``release()``, for ``test_end_of_process``.

``python -m tests.acceptance.ending URL QUEUE WAY``.  What is registered with ``atexit`` before the
library is imported runs after the library's own function.
"""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import os
import signal
import sys
import time
from collections.abc import Callable

_last: list[Callable[[], object]] = []
atexit.register(lambda: [act() for act in _last])

from kombu_actors import Connection, Producer, Queue  # noqa: E402  after the function above was registered

MANY = 1000
"""Messages published in a row."""
LATE = 20
"""Messages of whoever publishes when the library's own exit function has run."""
MOMENT = 1.0
"""Seconds between the last publish and the kill: far more than it takes, on a machine that does other things, too."""


class Program:
    """What ends: a connection with one producer."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.connection = Connection(url)
        self.producer = Producer(self.connection)

    def publish(self, count: int) -> None:
        """Publish that many."""
        for number in range(count):
            self.producer.publish(number, routing_key=self.name, declare=[Queue(self.name, durable=True)])

    def publish_anew(self) -> None:
        """Over a connection that is made when the process is exiting already."""
        with Connection(self.url) as another:
            for number in range(LATE):
                Producer(another).publish(number, routing_key=self.name)

    def log(self) -> None:
        """The records wait in memory for ``logging.shutdown``."""
        handler = logging.handlers.MemoryHandler(MANY, logging.CRITICAL, Publishing(self))
        log = logging.getLogger("tests.ending")
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        for number in range(LATE):
            log.info("line %d", number)

    def end(self, way: str) -> None:
        """End in one of the ways."""
        if way == "atexit":
            _last.append(lambda: self.publish(LATE))
        elif way == "atexit-release":
            _last.extend((lambda: self.publish(LATE), self.connection.release))
        elif way == "atexit-new-connection":
            _last.append(self.publish_anew)
        elif way == "logging":
            self.log()
        elif way == "finalizer":
            Finalized(self)
        elif way == "exception":
            raise SystemExit(7)
        else:
            time.sleep(MOMENT) if way == "killed-at-rest" else burn()
            os.kill(os.getpid(), signal.SIGTERM)


class Publishing(logging.Handler):
    """Publishes what is logged."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program

    def emit(self, record: logging.LogRecord) -> None:
        self.program.producer.publish(self.format(record), routing_key=self.program.name)


class Finalized:
    """Publishes when the interpreter has been torn down."""

    def __init__(self, program: Program) -> None:
        self.program = program
        globals()["kept"] = self

    def __del__(self) -> None:
        try:
            self.program.producer.publish("too late", routing_key=self.program.name)
        except Exception as error:
            os.write(1, f"{type(error).__name__}: {error}\n".encode())


def burn() -> None:
    """Keep the interpreter busy."""
    end = time.perf_counter() + MOMENT
    while time.perf_counter() < end:
        pass


if __name__ == "__main__":
    running = Program(*sys.argv[1:3])
    running.publish(MANY)
    running.end(sys.argv[3])
