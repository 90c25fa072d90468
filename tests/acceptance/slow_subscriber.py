"""A program that subscribes to broadcasts and does nothing with them: ``URL ack|no_ack``.

It says ``ready``; for a line it gets it says by how many bytes it has grown at most and how many sessions it has had;
then it hears all there is until one begins with ``last``, and says how many that were.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.message import Message


def memory(field: str) -> int:
    """A figure of this process's memory, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main(url: str, no_ack: bool) -> None:
    """Subscribe, wait, report, hear."""
    got: list[Message] = []
    queue = Queue("slow", Exchange("news", "fanout"), auto_delete=True)
    with Connection(url) as connection, connection.Consumer([queue], on_message=got.append, no_ack=no_ack):
        handle = connection.connection
        assert handle is not None
        before = memory("VmRSS")
        print("ready", flush=True)
        sys.stdin.readline()
        connection.default_channel.queue_declare("slow", passive=True)
        print(memory("VmHWM") - before, handle.sessions, flush=True)
        heard, last = 0, b""
        while not last.startswith(b"last"):
            connection.drain_events(timeout=10)
            message = got.pop()
            if not no_ack:
                message.ack()
            heard, last = heard + 1, bytes(message.body[:4])
        print(heard, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "no_ack")
