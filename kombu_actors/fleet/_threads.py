"""Plain functions as handlers: each call in a worker thread, which nobody can cancel."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import traceback
from collections.abc import Callable

import attrs
import trio

from .._logs import get_logger
from ..supervisors._interrupts import protected

logger = get_logger("kombu_actors.fleet")


@attrs.define(eq=False)
class Running:
    """One call of a plain function."""

    message_id: str
    since: float
    ended: Callable[[], None] | None = None
    """Called when it is stuck, and ends after all."""
    thread: int | None = None
    """Written by the thread as it begins, and None again as it ends."""
    stuck: bool = False

    def stack(self) -> tuple[str, ...]:
        """Where the function is now, outermost first."""
        frame = sys._current_frames().get(self.thread) if self.thread is not None else None
        return tuple(traceback.format_stack(frame)) if frame is not None else ()


@protected
class Threads:
    """The threads of one consumer.

    A function that is over its time goes on in its thread.  It is reported, and its slot takes other messages; but no
    more than ``bound`` threads may hang like that: then slots wait until one of them ends.
    """

    def __init__(self, bound: int, report: Callable[[Running], None]) -> None:
        self.stuck: list[Running] = []
        self._bound = bound
        self._report = report
        self._limiter = trio.CapacityLimiter(math.inf)  # the slots are the limit
        self._freed = trio.lowlevel.ParkingLot()

    async def call(self, message_id: str, function: Callable[..., object], *args: object) -> object:
        """Call it in a thread.  Cancelled, it is left alone there, and reported."""
        running = Running(message_id, trio.current_time())
        token = trio.lowlevel.current_trio_token()

        def work() -> object:
            running.thread = threading.get_ident()
            try:
                return function(*args)
            finally:
                running.thread = None
                with contextlib.suppress(trio.RunFinishedError):  # then the process is on its way out
                    token.run_sync_soon(self._ended, running)

        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)
        except trio.Cancelled:
            if running.thread is not None:
                running.stuck = True
                self.stuck.append(running)
                self._report(running)
            raise

    def when_ended(self, message_id: str, call: Callable[[], None]) -> bool:
        """Have that called when the thread that is stuck with this message has ended; False when there is none."""
        for running in self.stuck:
            if running.message_id == message_id:
                running.ended = call
                return True
        return False

    @property
    def full(self) -> bool:
        """Whether as many threads hang as may."""
        return len(self.stuck) >= self._bound

    async def wait_room(self) -> None:
        """Wait until fewer threads hang than may, or ``wake`` is called."""
        await self._freed.park()

    def wake(self) -> None:
        """Let who waits for room look again at what it is asked to do."""
        self._freed.unpark_all()

    def _ended(self, running: Running) -> None:
        if running.stuck:
            self.stuck.remove(running)
            if running.ended is not None:
                running.ended()
            logger.warning("the handler of message %s, which was STUCK, has ended after all", running.message_id)
            self._freed.unpark_all()
