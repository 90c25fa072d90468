"""Dying with the parent, however that goes."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent has died (``prctl(2)``); exit at once if it has already.

    It is the death of the *thread* that forked which counts: parents start processes from the thread of their loop.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
