"""A worker of the fault soak: ``python -m soak._redis_hand LIBRARY URL QUEUE DIARY``; it works until it's killed.

It writes into its diary, a line at a time, what it got and what it settled, and when.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from ._redis_diary import Diary

WORK = 0.03
"""Seconds that a message takes at most."""


def options_of(library: str) -> dict[str, Any]:
    """Its transport options; the connections of ours are known by the process."""
    mine = {"client_name": f"hand-{os.getpid()}", "lease": 4.0} if library == "kombu_actors" else {}
    return {"visibility_timeout": 8, **mine}


def work(library: str, url: str, queue: str, diary: Diary) -> None:
    """One connection's life; stock kombu's ends with each fault."""
    module = import_module(library)

    def handle(body: Any, message: Any) -> None:
        diary.write("got", body)
        time.sleep(random.uniform(0, WORK))
        try:
            message.ack()
        except Exception as error:
            diary.write(f"stale:{type(error).__name__}", body)
            if library == "kombu":
                raise
        else:
            diary.write("acked", body)

    with module.Connection(url, transport_options=options_of(library)) as connection:
        consumer = connection.Consumer([module.Queue(queue)], callbacks=[handle], prefetch_count=5)
        with consumer:
            while True:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=1)


def main() -> None:
    """Work, and begin anew after whatever ends a connection."""
    library, url, queue, path = sys.argv[1:]
    diary = Diary.open(path)
    while True:
        try:
            work(library, url, queue, diary)
        except Exception as error:
            diary.write(f"error:{type(error).__name__}", None)
            time.sleep(0.2)


if __name__ == "__main__":
    main()
