"""What signals say to the parent."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Protocol

import trio


class Stop(Protocol):
    """``Program.stop``."""

    def __call__(self, reason: str, *, at_once: bool = False) -> None: ...


async def obey_signals(stop: Stop, hung_up: Callable[[], None], task_status: trio.TaskStatus[None]) -> None:
    """TERM or INT: drain; the second: at once; the third: leave.  HUP as ``hung_up`` has it."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        count = 0
        async for number in signals:
            if number == signal.SIGHUP:
                hung_up()
                continue
            count += 1
            name = signal.Signals(number).name
            if count == 1:
                stop(f"{name} was received")
            elif count == 2:
                stop(f"{name} was received a second time", at_once=True)
            else:
                os._exit(1)  # and the kernel kills the workers
