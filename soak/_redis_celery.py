"""The Celery application of the fault soak: one task that writes into a diary; see ``redis_faults``."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from ._redis_diary import Diary

TASK = "soak.note"
app: Any = import_module("celery").Celery("soak", broker=os.environ.get("SOAK_URL"))
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 8, "unacked_restore_throttle": 1},
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)


def note(number: int) -> None:
    """The one task."""
    Diary.open(os.environ["SOAK_DIARY"]).write("ran", number)


app.task(name=TASK)(note)
