"""Counting what must not be left over: threads, file descriptors, child processes."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence

import attrs
import psutil


@attrs.frozen
class Holdings:
    """What this process holds: thread names, descriptors with their targets, children's ids."""

    threads: frozenset[tuple[int, str]]
    descriptors: frozenset[tuple[int, str]]
    children: frozenset[int]

    @classmethod
    def now(cls) -> Holdings:
        """Take stock."""
        gc.collect()
        return cls(
            threads=frozenset((thread.ident or 0, thread.name) for thread in threading.enumerate()),
            descriptors=frozenset(_open_descriptors()),
            children=frozenset(child.pid for child in psutil.Process().children()),  # a broker's own come and go
        )

    def more_than(self, before: Holdings) -> dict[str, Sequence[object]]:
        """What is held now and was not before, by kind; empty when nothing is."""
        extra: dict[str, Sequence[object]] = {
            "threads": sorted(self.threads - before.threads),
            "descriptors": sorted(self.descriptors - before.descriptors),
            "children": sorted(self.children - before.children),
        }
        return {kind: things for kind, things in extra.items() if things}


def _open_descriptors() -> Iterator[tuple[int, str]]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            yield int(name), os.readlink(f"/proc/self/fd/{name}")


@contextlib.contextmanager
def no_leaks(*, grace: float = 2.0) -> Iterator[None]:
    """Fail when the block leaves a thread, descriptor or child process behind.

    ``grace`` is for threads that were told to end and need a moment.  trio's idle worker
    threads live on for 10 s by design and are not counted.
    """
    before = Holdings.now()
    yield
    deadline = time.monotonic() + grace
    while left := _not_trios(Holdings.now().more_than(before)):
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.01)  # neither threads nor descriptors announce their end to strangers


def _not_trios(left: dict[str, Sequence[object]]) -> dict[str, Sequence[object]]:
    threads = [thread for thread in left.get("threads", []) if "Trio thread" not in str(thread)]
    return {kind: things for kind, things in {**left, "threads": threads}.items() if things}
