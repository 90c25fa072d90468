"""Consumers to be killed: ``python -m tests.acceptance.redis_zygote LIBRARY URL``, kombu or kombu_actors.

For each line of its input, a queue's name, it forks a consumer of that queue, which costs no import, and waits for
its end.  It says the consumer's process id, then ``ended``; the consumer says ``ready``, and each message's payload
before it acks it.  All of it goes into one pipe, line by line, so that what was said before a kill is before ``ended``.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

PREFETCH = 10


def say(what: object) -> None:
    """One line, at once and whole."""
    os.write(1, f"{what}\n".encode())


def consume(library: Any, url: str, queue: str) -> None:
    """Receive, tell, ack, until killed."""

    def handle(body: Any, message: Any) -> None:
        say(body)
        message.ack()

    with (
        library.Connection(url) as connection,
        library.Consumer(connection, [library.Queue(queue)], callbacks=[handle], prefetch_count=PREFETCH),
    ):
        say("ready")
        while True:
            connection.drain_events(timeout=60)


def main(name: str, url: str) -> None:
    library = import_module(name)
    import_module(f"{name}.transport.redis")
    for names in (library.Connection, library.Consumer, library.Queue):
        assert names is not None  # imported lazily, so before the forks
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                consume(library, url, line.strip())
            finally:
                os._exit(1)
        say(pid)
        os.waitpid(pid, 0)
        say("ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
