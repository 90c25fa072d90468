"""``--burst``: handle what is there, and end."""

from __future__ import annotations

import trio

from ..errors import KombuError
from ..fleet.certificate import QueueCount
from ..fleet.depths import Depths
from ..fleet.program import Program

__all__ = ["end_when_idle"]

PAUSE = 3.0
"""Seconds between two looks: longer than a worker process that has nothing to do waits with its word."""


async def end_when_idle(program: Program, *, task_status: trio.TaskStatus[None]) -> None:
    """Beside a program: have it drain when its queues are empty and nothing is in hand, at two looks in a row.

    Two, because a handler that ends between the looks at workers and at queues may have published the next message.
    """
    task_status.started()
    while not program.status().ready:  # noqa: ASYNC110  # as long as it takes, and a look is nothing
        await trio.sleep(0.1)
    before: int | None = None
    while True:
        try:
            async with program.fleet.depths() as depths:
                while True:
                    taken = await _taken_when_idle(program, depths)
                    if taken is not None and taken == before:
                        program.stop("nothing is left to be done")
                        return
                    before = taken
                    await trio.sleep(PAUSE)
        except KombuError:
            before = None
            await trio.sleep(PAUSE)  # the program waits for its broker as well


async def _taken_when_idle(program: Program, depths: Depths) -> int | None:
    """How many messages have been taken in so far; None while there are others."""
    queues = (await depths.look()).queues
    if not program.status().ready:
        return None  # messages may be on their way to who comes next
    counts = [
        QueueCount(**consumer["count"])
        for process in program.processes()
        if process.fleet is not None
        for consumer in process.fleet["consumers"]
    ]
    if QueueCount.of(counts).missing or any(queue.ready for queue in queues):
        return None  # some are in hand, or wait
    return sum(count.received for count in counts)
