"""A Celery application whose tasks note in a file (``DIARY``) when they begin, ``+3``, and end, ``-3``.

``BROKER`` is its broker's URL.
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import Any

NAP = 0.2
"""Seconds that a task takes."""

app: Any = import_module("celery").Celery("green", broker=os.environ.get("BROKER", "memory://"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_heartbeat=0,  # else Celery waits 0.1 s for one after each message
    task_ignore_result=True,
    worker_enable_remote_control=False,
)


def note(line: str) -> None:
    """Append a line to the diary."""
    with open(os.environ["DIARY"], "a") as diary:
        diary.write(f"{line}\n")


def nap(number: int) -> None:
    """Sleep, so that others run meanwhile."""
    note(f"+{number}")
    time.sleep(NAP)
    note(f"-{number}")


app.task(name="nap")(nap)
