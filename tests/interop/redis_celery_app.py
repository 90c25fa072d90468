"""A Celery application as its documentation says: ``celery -A tests.interop.redis_celery_app worker``.

The broker's URL comes from ``CELERY_BROKER_URL``, which is Celery's own variable.  Results go back as messages.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

TASK = "tests.add"

app: Any = import_module("celery").Celery("tests", backend="rpc://")
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_transport_options={"unacked_restore_throttle": 1},
    task_queue_max_priority=10,
    worker_send_task_events=True,
    worker_hijack_root_logger=False,
)


def add(x: int, y: int = 0) -> int:
    """The one task."""
    return x + y


app.task(name=TASK)(add)
