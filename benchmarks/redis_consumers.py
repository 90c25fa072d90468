"""Consumers of one queue in a process of their own: ``python -m benchmarks.redis_consumers <what as JSON>``.

Writes a line "0" for each connection whose consumers are there, and for each message its age in
microseconds.  Ends when its standard input does.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from typing import Any

PREFETCH = 10
"""As long as others are idle, nobody shall hold much."""
GLANCE = 1.0
"""Seconds of one ``drain_events``: how soon the end is noticed."""


def main(what: str) -> None:
    """Consume until told to end."""
    wanted = json.loads(what)
    library: Any = importlib.import_module(wanted["library"])
    ended = threading.Event()

    def on_message(message: Any) -> None:
        age = time.perf_counter() - message.payload["at"]
        os.write(1, b"%d\n" % (age * 1e6))
        message.ack()

    def consume() -> None:
        with library.Connection(wanted["url"]) as connection:
            for _ in range(wanted["channels"]):
                consumer = library.Consumer(
                    connection.channel(), library.Queue(wanted["queue"]), on_message=on_message, prefetch_count=PREFETCH
                )
                consumer.consume()
            os.write(1, b"0\n")
            while not ended.is_set():
                try:
                    connection.drain_events(timeout=GLANCE)
                except TimeoutError:
                    continue

    threads = [threading.Thread(target=consume) for _ in range(wanted["links"])]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
