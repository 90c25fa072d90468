"""Tasks that wait for the messages of one subscription."""

from __future__ import annotations

import trio

from ..supervisors._interrupts import protected

__all__ = ["Takers"]


@protected
class Takers:
    """As a trio ``ParkingLot``, at a third of its cost: of a thousand subscriptions each message wakes a task."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: list[trio.lowlevel.Task] = []

    def wake(self, count: int) -> None:
        """Wake as many, those first who have waited longest."""
        tasks = self._tasks
        while tasks and count:
            trio.lowlevel.reschedule(tasks.pop(0))
            count -= 1

    def wake_all(self) -> None:
        """Wake everybody."""
        self.wake(len(self._tasks))

    async def wait(self) -> None:
        """Wait to be woken."""
        task = trio.lowlevel.current_task()

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._tasks.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        self._tasks.append(task)
        await trio.lowlevel.wait_task_rescheduled(give_up)
