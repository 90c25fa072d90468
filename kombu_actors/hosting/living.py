"""Whether a program lives, and whether it ends.  Pure."""

from __future__ import annotations

from ..fleet.status import ProcessState, Status

__all__ = ["SILENT", "alive", "ending"]

SILENT = 30.0
"""Seconds without a beat of any process after which the parent that should have replaced them is of no use."""


def alive(status: Status, silent: float = SILENT) -> tuple[bool, str]:
    """Whether starting the whole program again would be of no help, and why.

    A broker that is away is waited for, and a process that died is replaced by the parent: neither counts.  That this
    is asked at all says that the runtime turns.  What is left is a parent that can't help its processes.
    """
    running = [one for one in status.processes if one.state not in (ProcessState.BACKING_OFF, ProcessState.GONE)]
    if running and all(one.beat_age > silent for one in running):
        quiet = min(one.beat_age for one in running)
        return False, f"no process has been heard of for {quiet:.0f} s"
    return True, "alive"


def ending(status: Status) -> bool:
    """Whether the program as a whole drains; one process of several that does is being replaced."""
    over = (ProcessState.DRAINING, ProcessState.GONE)
    return bool(status.processes) and all(one.state in over for one in status.processes)
