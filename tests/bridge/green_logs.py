"""What the runtime has to say under gevent or eventlet: ``python -m tests.bridge.green_logs LIBRARY URL`` prints it.

The handler naps, while logging holds its lock, and the runtime and other greenlets have something to log meanwhile.
"""

# ruff: noqa: E402  # what is imported when is the point
from __future__ import annotations

import atexit
import importlib
import json
import sys
from typing import Any

library, url = sys.argv[1:3]
if library == "gevent":
    importlib.import_module("gevent.monkey").patch_all()
else:
    importlib.import_module("eventlet").monkey_patch()

LINES = 20
seen: dict[str, Any] = {"errors": [], "told": [], "elsewhere": [], "greenlets": 0}
atexit.register(lambda: print(json.dumps(seen)))  # before our import, so after what we do at exit

import logging
import threading
import time

from kombu_actors import Connection

MAIN = threading.get_native_id()


class Napping(logging.Handler):
    """Notes what is logged, and by which line; of the runtime only errors."""

    def emit(self, record: logging.LogRecord) -> None:
        if threading.get_native_id() != MAIN:
            seen["elsewhere"].append(record.getMessage())
        time.sleep(0.01)
        if record.name == "greenlets":
            seen["greenlets"] += 1
        elif record.levelno >= logging.ERROR:
            seen["errors"].append(record.getMessage())
            seen["where"] = [record.name, record.pathname.rpartition("/")[2], record.funcName]


logging.basicConfig(level=logging.INFO, handlers=[Napping()])


def chatter() -> None:
    """Log, beside other greenlets that do."""
    for number in range(LINES):
        logging.getLogger("greenlets").info("line %d", number)


def on_refused(refused: Any) -> None:
    """The program's hook."""
    if threading.get_native_id() != MAIN:
        seen["elsewhere"].append(refused.exchange)
    time.sleep(0.001)
    seen["told"].append(refused.exchange)


def publish_to_nowhere(number: int) -> None:
    """Nobody waits, so that the runtime logs the refusal."""
    channel = connection.channel()
    channel.basic_publish(channel.prepare_message("x"), exchange=f"nowhere-{number}")


with Connection(url, transport_options={"on_refused": on_refused}) as connection:
    connection.connect()
    greenlets = [threading.Thread(target=chatter) for _ in range(3)]
    for greenlet in greenlets:
        greenlet.start()
    for number in range(LINES):
        publish_to_nowhere(number)
        time.sleep(0.005)
    for greenlet in greenlets:
        greenlet.join()
    with connection.SimpleQueue("green-logs") as simple:  # and the runtime goes on
        simple.put("x")
        simple.get(timeout=10).ack()
    publish_to_nowhere(LINES)  # said while the connection is closed, or the process ends
