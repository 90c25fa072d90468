"""The Celery application that is measured: ``celery -A benchmarks.celery_app worker``.  Its task does nothing."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

app: Any = import_module("celery").Celery("benchmarks", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_default_queue=os.environ["BENCH_QUEUE"],
    task_ignore_result=True,
)


@app.task(name="benchmarks.nothing")  # type: ignore[untyped-decorator]  # Celery has no types
def nothing(number: int, text: str) -> None:
    """No work; the arguments are there for the message's usual size."""


@app.task(name="benchmarks.tell")  # type: ignore[untyped-decorator]
def tell() -> None:
    """Write a line when all tasks before this one have begun."""
    with Path(os.environ["BENCH_PIPE"]).open("w") as pipe:
        pipe.write("\n")
