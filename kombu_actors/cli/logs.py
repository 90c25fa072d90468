"""Where logs go: to stderr, as lines that people read, or as JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["LEVELS", "set_up_logging"]

LEVELS = ("debug", "info", "warning", "error")
LINE = "%(asctime)s %(levelname)-7s {process}%(name)s: %(message)s"


def set_up_logging(level: str, *, as_json: bool, process: int | None = None) -> None:
    """Have the root logger write to stderr, unless the program has set up its logging itself.

    ``process`` is the place of a worker process, for each line.
    """
    handler = logging.StreamHandler(sys.stderr)
    line = LINE.format(process="" if process is None else f"[{process}] ")
    handler.setFormatter(JsonLines(process) if as_json else logging.Formatter(line))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class JsonLines(logging.Formatter):
    """One JSON object a line: ``at`` (ISO 8601, UTC), ``level``, ``logger``, ``message``; ``error`` is a traceback.

    In a worker process, ``process`` is its place, from 1.
    """

    def __init__(self, process: int | None = None) -> None:
        super().__init__()
        self._own = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._own,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
