"""The Celery application of ``celery_promises``: two tasks that write into a diary.  Its settings come as JSON."""

from __future__ import annotations

import json
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.celery.diary import Diary

SETTINGS, DIARY = "PROMISED_SETTINGS", "PROMISED_DIARY"
"""Environment variables."""
app: Any = import_module("celery").Celery("promised")
app.conf.update(json.loads(os.environ[SETTINGS]))


@app.task(name="early")  # type: ignore[untyped-decorator]  # Celery has no types
def early(name: str, seconds: float = 0.0) -> None:
    """Write down its beginning and its end; acknowledged when it begins."""
    book = Diary(Path(os.environ[DIARY]))
    book.write(name, "began")
    time.sleep(seconds)
    book.write(name, "ended")


@app.task(name="late", acks_late=True)  # type: ignore[untyped-decorator]
def late(name: str, seconds: float = 0.0) -> None:
    """The same, acknowledged when it has ended."""
    early(name, seconds)
