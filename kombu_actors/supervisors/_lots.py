"""Where tasks wait for something that others bring, or for anything to change."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import trio

from ._interrupts import protected


class Lot(Protocol):
    """Tasks of one event loop that wait, the first to come first."""

    def park(self) -> Awaitable[None]:
        """Wait until unparked; to be awaited at once.  Cancelled, somebody else is woken in its place."""

    def unpark(self, count: int = 1) -> None:
        """Wake as many as that."""

    def unpark_all(self) -> None:
        """Wake all."""

    async def checkpoint(self) -> None:
        """Let other tasks of the loop run."""

    async def checkpoint_if_cancelled(self) -> None:
        """Be cancelled, if that was asked for and the loop has not done it yet."""


@protected
class TrioLot:
    """Tasks of this run of trio.

    As a ``ParkingLot``, at a third of its cost: of a thousand subscriptions each message wakes a task.
    """

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: list[trio.lowlevel.Task] = []

    def park(self) -> Awaitable[None]:
        """Wait until unparked.  No coroutine of its own: each task that waits would keep one."""
        task = trio.lowlevel.current_task()

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        self._tasks.append(task)
        return trio.lowlevel.wait_task_rescheduled(give_up)  # noqa: ASYNC105 - whoever parks awaits it

    def unpark(self, count: int = 1) -> None:
        """Wake as many as that."""
        tasks = self._tasks
        while tasks and count:
            trio.lowlevel.reschedule(tasks.pop(0))
            count -= 1

    def unpark_all(self) -> None:
        """Wake all."""
        self.unpark(len(self._tasks))

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await trio.lowlevel.checkpoint()

    async def checkpoint_if_cancelled(self) -> None:
        """Be cancelled, if this task's scope is."""
        await trio.lowlevel.checkpoint_if_cancelled()


@protected
class Changes:
    """As a trio ``ParkingLot``, for thousands of things: takes no memory, and no time, while nobody waits."""

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot: trio.lowlevel.ParkingLot | None = None

    def unpark_all(self) -> None:
        """Wake whoever waits."""
        lot, self._lot = self._lot, None
        if lot is not None:
            lot.unpark_all()

    async def park(self) -> None:
        """Wait to be woken."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()
