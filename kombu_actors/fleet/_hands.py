"""Which messages are in hand, written where it can be read when the process is gone: a mapping of shared memory.

A cell of it is a message: a byte that says whether it counts, then the queue's name and the message's, each with its
length.  A process that is killed while it writes leaves a torn name: of a message whose handler had not begun.  What a
message is called here has to be the same when it comes again.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b

from ..broker import Delivered
from ..supervisors._interrupts import protected

CELL = 512
"""Bytes: a queue's name and a message's have 255 at most, and their lengths."""
CELLS_MAX = 65_536
"""Cells: the memory of those that are not used costs nothing."""
NAME_MAX = 250
"""Bytes of a message's name that are written; a longer one is replaced by its digest."""

Key = tuple[str, str]
"""A queue, and the name of a message in it; or ``JOB``, and the name of a periodic job."""
JOB = ""
"""In the place of the queue's name: what is in hand is no message, and doesn't come again by itself."""


@protected
class Hands:
    """Owns the mapping, in the process whose hands they are."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._free: list[int] = []
        """Offsets."""

    def reserve(self, cells: int) -> None:
        """Have so many; none is in use."""
        size = min(cells, CELLS_MAX) * CELL
        os.ftruncate(self._descriptor, size)
        self._memory = mmap.mmap(self._descriptor, size)
        self._free = [*range(0, size, CELL)]

    def take(self, label: bytes) -> int:
        """Note a message; returns its cell, and -1 when there is none left."""
        free, memory = self._free, self._memory
        if not free:
            return -1
        at = free.pop()
        memory[at : at + len(label)] = label
        return at

    def drop(self, at: int) -> None:
        """It is in hand no longer."""
        if at >= 0:
            self._memory[at] = 0
            self._free.append(at)


def name_of(message: Delivered) -> str:
    """What a message is called: its id; where it has none, a digest of what is in it, as whoever sends the same again
    sends the same poison."""
    name = message.message_id
    if not name:
        return f"body {blake2b(message.body, digest_size=16).hexdigest()}"
    if len(name) <= NAME_MAX // 4 or len(name.encode(errors="replace")) <= NAME_MAX:
        return name
    return f"id {blake2b(name.encode(errors='replace'), digest_size=16).hexdigest()}"


def queue_label(queue: str) -> bytes:
    """How the labels of a queue's messages begin: with the byte that says that the cell is used."""
    name = queue.encode(errors="replace")[:255]
    return bytes([1, len(name)]) + name


def label_of(queue: bytes, name: str) -> bytes:
    """What is written of a message; ``queue`` is its ``queue_label``."""
    data = name.encode(errors="replace")
    return b"%b%c%b" % (queue, len(data), data)


def job_label(job: str) -> bytes:
    """What is written of a periodic job while it runs."""
    name = job.encode(errors="replace")[:NAME_MAX]
    return b"%b%c%b" % (queue_label(JOB), len(name), name)


def shown(key: Key) -> str:
    """How people are told of it."""
    queue, name = key
    return f"job {name}" if queue == JOB else f"{name} of {queue!r}"


def in_hand(memory: bytes) -> list[Key]:
    """The messages and jobs that were in hand, by what is left of the memory."""
    found = []
    for number, used in enumerate(memory[::CELL]):
        if used:
            cell = memory[number * CELL + 1 : (number + 1) * CELL]
            end = 1 + cell[0]
            name = cell[end + 1 : end + 1 + cell[end]]
            found.append((cell[1:end].decode(errors="replace"), name.decode(errors="replace")))
    return found
