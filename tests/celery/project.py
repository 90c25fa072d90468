"""The Celery application of all scenarios, as its documentation says: ``celery -A tests.celery.project worker``.

Settings that differ from run to run are environment variables; nothing here knows whose kombu it stands on.
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from .diary import Diary

celery: Any = import_module("celery")
exceptions: Any = import_module("celery.exceptions")
kombu: Any = import_module("kombu")
Broadcast: Any = import_module("kombu.common").Broadcast

app: Any = celery.Celery(
    "scenarios", broker=os.environ.get("SCENARIO_BROKER"), backend=os.environ.get("SCENARIO_RESULTS")
)
PRIORITIES = {"x-max-priority": 10}
app.conf.update(
    accept_content=["json", "pickle"],
    beat_schedule={"tick": {"task": "note", "schedule": 0.3, "args": ("beat",), "options": {"queue": "other"}}},
    beat_max_loop_interval=0.3,
    broker_connection_retry_on_startup=True,
    broker_transport_options=(
        {"visibility_timeout": 3600, "unacked_restore_limit": None}
        if str(os.environ.get("SCENARIO_BROKER")).startswith("redis")
        else {}
    ),
    control_queue_expires=60,
    result_accept_content=["json", "pickle"],
    task_create_missing_queues=True,
    task_default_queue="celery",
    task_queues=[
        kombu.Queue("celery"),
        kombu.Queue("other"),
        kombu.Queue("ranked", queue_arguments=PRIORITIES),
        Broadcast("everyone", queue_arguments={"x-expires": 60_000}),
    ],
    task_routes={"routed": {"queue": "other"}},
    task_send_sent_event=True,
    task_track_started=True,
    worker_hijack_root_logger=False,
    worker_proc_alive_timeout=60.0,  # else the pool kills every process that a busy machine doesn't bring up in 4 s
    worker_prefetch_multiplier=int(os.environ.get("SCENARIO_PREFETCH", "4")),
    worker_send_task_events=True,
)


def diary() -> Diary:
    """The run's."""
    return Diary(Path(os.environ["SCENARIO_DIARY"]))


@app.task(name="add")  # type: ignore[untyped-decorator]  # Celery has no types
def add(x: Any, y: Any = 0) -> Any:
    """What every documentation of Celery adds."""
    return x + y


@app.task(name="total")  # type: ignore[untyped-decorator]
def total(numbers: list[int]) -> int:
    """The body of chords."""
    return sum(numbers)


@app.task(name="fail")  # type: ignore[untyped-decorator]
def fail(text: str = "on purpose") -> None:
    """Fails."""
    raise ValueError(text)


@app.task(name="note")  # type: ignore[untyped-decorator]
def note(name: str, seconds: float = 0.0, held: bool = False) -> str:
    """Write into the diary, before and after ``seconds``, and when ``held`` after the diary's ``hold``, too."""
    book = diary()
    book.write(name, "began")
    time.sleep(seconds)
    if held:
        book.wait_released()
    book.write(name, "ended")
    return name


@app.task(name="routed")  # type: ignore[untyped-decorator]
def routed() -> None:
    """Goes to another queue."""


@app.task(name="late", acks_late=True, reject_on_worker_lost=True)  # type: ignore[untyped-decorator]
def late(name: str, seconds: float = 0.0, held: bool = False) -> str:
    """``note``, acknowledged when it is done."""
    done: str = note(name, seconds, held)
    return done


@app.task(name="retrying", bind=True)  # type: ignore[untyped-decorator]
def retrying(self: Any, times: int, countdown: float = 0.05, max_retries: int = 3) -> int:
    """Succeed at the retry of that number."""
    if self.request.retries < times:
        raise self.retry(exc=KeyError("not yet"), countdown=countdown, max_retries=max_retries)
    retries: int = self.request.retries
    return retries


@app.task(  # type: ignore[untyped-decorator]
    name="auto", bind=True, autoretry_for=(LookupError,), retry_backoff=0.05, retry_jitter=False, max_retries=3
)
def auto(self: Any) -> int:
    """Retried by what it raises."""
    if self.request.retries < 2:
        raise LookupError("again")
    retries: int = self.request.retries
    return retries


@app.task(name="refuse", bind=True, acks_late=True)  # type: ignore[untyped-decorator]
def refuse(self: Any, name: str, requeue: bool) -> str:
    """Reject the first delivery."""
    book = diary()
    book.write(name, "began")
    if not self.request.delivery_info["redelivered"]:
        raise exceptions.Reject("at first", requeue=requeue)
    book.write(name, "ended")
    return name


@app.task(name="ignored")  # type: ignore[untyped-decorator]
def ignored() -> None:
    """Leaves no result."""
    raise exceptions.Ignore


@app.task(name="progress", bind=True)  # type: ignore[untyped-decorator]
def progress(self: Any, seconds: float) -> str:
    """Tell how far it has come, and wait."""
    self.update_state(state="HALFWAY", meta={"done": 50})
    time.sleep(seconds)
    return "done"


@app.task(name="replaced", bind=True)  # type: ignore[untyped-decorator]
def replaced(self: Any, x: int) -> Any:
    """Have others do it."""
    return self.replace(celery.chain(add.s(x, 1), add.s(10)))


@app.task(name="seen", bind=True)  # type: ignore[untyped-decorator]
def seen(self: Any) -> dict[str, Any]:
    """What the task has been told of itself."""
    return {
        "own": self.request.get("own"),
        "priority": self.request.delivery_info.get("priority"),
        "routing_key": self.request.delivery_info.get("routing_key"),
        "kombu": kombu.Connection.__module__,
        "pid": os.getpid(),
    }


@app.task(name="limited", rate_limit="100/s")  # type: ignore[untyped-decorator]
def limited(name: str) -> None:
    """``note``, whose rate others change."""
    note(name)


@app.task(name="calls")  # type: ignore[untyped-decorator]
def calls(name: str) -> str:
    """Publish from inside a task."""
    sent = note.delay(name)
    identity: str = sent.id
    return identity
