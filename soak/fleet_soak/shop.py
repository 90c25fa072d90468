"""The fleet that the workers run.  A message's number says how it fares; each worker keeps a diary in a file.

Each line of it is written at once, so that it survives the process: when, what (``begin``, ``done``), which message,
which attempt.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import trio

from kombu_actors.broker import QueueSpec
from kombu_actors.fleet import Fleet, Message, Reject, Retry

from .kinds import Kind, kind_of

DIARY = "SOAK_DIARY"
"""The environment's name for the directory of the diaries."""
URL = "SOAK_URL"
WORK, SIDE = "work", "side"
"""The queue of nearly everything; and one that is deleted now and then, while it is empty."""
CONCURRENCY = 10
TIMEOUT = 2.0
OPTIONS = {"heartbeat": 4.0, "connect_timeout": 2.0}

fleet = Fleet(
    os.environ.get(URL, "memory://nowhere"),
    name="soak",
    retry=Retry(delays=(0.5, 2.0)),
    drain_timeout=15,
    deaf_after=10,
    options=OPTIONS,
)

_diaries: dict[int, int] = {}


def note(what: str, message: Message, number: int) -> None:
    """Write a line."""
    pid = os.getpid()
    if pid not in _diaries:
        path = Path(os.environ[DIARY]) / str(pid)
        _diaries[pid] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_diaries[pid], f"{time.time():.3f} {what} {message.queue} {number} {message.attempt}\n".encode())


@fleet.consumer(QueueSpec(name=WORK), concurrency=CONCURRENCY, timeout=TIMEOUT)
async def work(number: int, message: Message) -> None:
    note("begin", message, number)
    kind = kind_of(number)
    first = message.attempt == 1
    match kind:
        case Kind.RAISES if first:
            raise ValueError("not at the first attempt")
        case Kind.NEVER:
            raise ValueError("never")
        case Kind.REJECTED:
            raise Reject("rejected")
        case Kind.OVERRUNS if first:
            await trio.sleep(10 * TIMEOUT)
        case Kind.POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            await trio.sleep(0.005)
    note("done", message, number)


@fleet.consumer(QueueSpec(name=SIDE), concurrency=2)
async def side(number: int, message: Message) -> None:
    note("done", message, number)
