"""The event loop: one thread that waits for files, timers and calls of others, and runs what they are for."""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .._bridge.listener import Listener
from ..log import get_logger
from ..utils.compat import fileno
from ..utils.eventio import ERR, READ, WRITE, Poller, poll
from . import debug
from ._present import get_event_loop, set_event_loop
from ._soon import Calls, Soon, Stop, stop
from .timer import Entry, Timer, When

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    Callback = Callable[..., object] | GeneratorType[object, None, object]
    """A function, or a generator that is stepped."""
    Watcher = tuple[Callback, tuple[object, ...]]
    """It, and its arguments."""

__all__ = ["Hub", "get_event_loop", "set_event_loop"]

IDLE = 1.0
"""Seconds of one wait when no timer is due earlier: files and calls of other threads end it before."""
STARTING = 0.1
"""Seconds of one wait while nothing is watched yet."""
logger = get_logger(__name__)


class Hub:
    """An event loop: ``run_forever()`` it, or step through it by ``create_loop()``.

    It belongs to the thread that runs it, where all callbacks run; ``call_soon`` may be called from any.  What
    callbacks raise ends the loop; what timers raise is logged, unless it is among ``propagate_errors``.

    ``on_tick`` are called in each turn, before it waits, ``on_close`` with the hub when it is closed.  Writers that
    were added with ``consolidate`` are told together: ``consolidate_callback(descriptors)``.
    """

    READ = READ
    WRITE = WRITE
    ERR = ERR

    def __init__(self, timer: Timer | None = None) -> None:
        self.timer = timer if timer is not None else Timer()
        self.readers: dict[int, Watcher | None] = {}
        self.writers: dict[int, Watcher | None] = {}
        self.on_tick: set[Callable[[], object]] = set()
        self.on_close: set[Callable[[Hub], object]] = set()
        self.consolidate: set[int] = set()
        self.consolidate_callback: Callable[[list[int]], object] | None = None
        self.propagate_errors: tuple[type[BaseException], ...] = ()
        self._ready = Calls()
        self._poller: Poller | None = None
        self._waker = Listener()
        """What other threads end a wait by."""
        self._quiet = poll()
        """Waits for those only, while nothing is watched."""
        self._quiet.register(self._waker.descriptor, READ)
        self._loop: Generator[None, None, None] | None = None
        self._scheduler: Iterator[tuple[float | None, Entry | None]] | None = None
        self._thread: int | None = None
        self._open()

    def __repr__(self) -> str:
        return f"<Hub@{id(self):#x}: R:{len(self.readers)} W:{len(self.writers)}>"

    # Its life

    def _open(self) -> Poller:
        self._poller = made = poll()
        made.register(self._waker.descriptor, READ)
        return made

    def _shut(self) -> None:
        """Stop waiting for anything; the next use begins anew."""
        self.readers.clear()
        self.writers.clear()
        self.consolidate.clear()
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.close()
        self._loop = None

    def reset(self) -> None:
        """Forget files and calls, but not timers."""
        self._shut()
        self._pop_ready()
        self._open()

    def close(self, *args: object) -> None:
        """Forget files, tell ``on_close``, and make the calls that are still waiting; what they raise is logged."""
        self._shut()
        for callback in list(self.on_close):
            callback(self)
        for call in self._pop_ready():
            try:
                call()
            except Exception as error:
                self.on_callback_error(call, error)

    def stop(self) -> None:
        """Have ``run_forever`` return."""
        self.call_soon(stop)

    def on_callback_error(self, callback: Callable[..., object], exc: BaseException) -> None:
        """A call that was made while closing has raised: it is logged."""
        logger.error("Callback %r raised exception: %r", callback, exc, exc_info=exc)

    # Running

    @property
    def poller(self) -> Poller:
        """What it waits with."""
        return self._poller or self._open()

    @poller.setter
    def poller(self, poller: Poller) -> None:
        self._poller = poller

    @property
    def loop(self) -> Generator[None, None, None]:
        """The loop that ``run_once`` steps through."""
        if self._loop is None:
            self._loop = self.create_loop()
        return self._loop

    @property
    def scheduler(self) -> Iterator[tuple[float | None, Entry | None]]:
        """The timer, iterated."""
        if self._scheduler is None:
            self._scheduler = iter(self.timer)
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Iterator[tuple[float | None, Entry | None]]) -> None:
        self._scheduler = scheduler

    def run_forever(self) -> None:
        """Run until ``stop`` is called."""
        while True:
            try:
                self.run_once()
            except Stop:
                return

    def run_once(self) -> None:
        """One turn."""
        try:
            next(self.loop)
        except BaseException as error:
            self._loop = None
            if not isinstance(error, StopIteration):
                raise

    def create_loop(self) -> Generator[None, None, None]:
        """The loop; each step is one turn: calls, timers, ticks, then one wait for files."""
        while True:
            self._thread = threading.get_ident()
            self._ready.make()
            timeout = self.fire_timers(propagate=self.propagate_errors) if self.timer._queue else IDLE
            for tick in list(self.on_tick):
                tick()
            self._wait(timeout)
            yield

    def _wait(self, timeout: float) -> None:
        poller = self.poller
        if self._ready:
            timeout = 0
        if not self.readers and not self.writers:
            self._quiet.poll(min(timeout, STARTING))
            self._waker.hear()
            return
        together: list[int] = []
        try:
            events = list(poller.poll(timeout) or ())
        except ValueError:
            return  # closed by a callback of the poll before
        for fd, event in events:
            if self._poller is not poller:
                return  # reset or closed by one of them
            if fd == self._waker.descriptor:
                self._waker.hear()
            elif fd in self.consolidate and fd in self.writers and self.writers[fd] is None:
                together.append(fd)
            else:
                self._handle(fd, event)
        if together and self.consolidate_callback is not None:
            self.consolidate_callback(together)

    def _handle(self, fd: int, event: int) -> None:
        if event & READ:
            watcher, forget = self.readers.get(fd), self.remove_reader
        elif event & WRITE:
            watcher, forget = self.writers.get(fd), self.remove_writer
        else:
            watcher, forget = None, self.remove
        if watcher is None and event & ERR:
            watcher, forget = self.readers.get(fd) or self.writers.get(fd), self.remove
        if watcher is None:
            forget(fd)
            return
        callback, args = watcher
        if not isinstance(callback, GeneratorType):
            try:
                callback(*args)
            except Empty:
                return
            return
        try:
            next(callback)
        except StopIteration:
            if watcher in (self.readers.get(fd), self.writers.get(fd)):
                forget(fd)  # nobody would read what keeps it ready
        except OSError as error:
            self.remove(fd)
            if error.errno != errno.EBADF:
                raise
        except Exception:
            self.remove(fd)
            raise

    def fire_timers(
        self,
        min_delay: float = 1,
        max_delay: float = 10,
        max_timers: int = 10,
        propagate: tuple[type[BaseException], ...] = (),
    ) -> float:
        """Make the calls that are due, at most ``max_timers``; returns the seconds until the next.

        That is ``min_delay`` where none is entered, 0 where more are due, never more than ``max_delay``.  What they
        raise is logged; ``propagate``, ``MemoryError`` and ``AssertionError`` are raised.
        """
        for _ in range(max_timers):
            delay, entry = next(self.scheduler)
            if entry is None:
                return min(delay if delay is not None else min_delay, max_delay)
            try:
                entry()
            except Exception as error:
                fatal = isinstance(error, (*propagate, MemoryError, AssertionError))
                if fatal or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
                    raise
                logger.error("Error in timer: %r", error, exc_info=True)
        return 0

    # Calls

    def call_soon(self, callback: Callable[..., object], *args: object) -> Any:
        """Have ``callback(*args)`` called at the next turn, by the loop's thread.  Any thread.

        Returns what may be cancelled: a promise is returned as it is, and called once however often it is given.
        """
        call = callback if hasattr(callback, "then") and not args else Soon(callback, args)
        self._ready.add(call)
        if threading.get_ident() != self._thread:
            self._waker.ring()
        return call

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Entry:
        """Have it called in ``delay`` seconds."""
        return self.timer.call_after(delay, callback, args)

    def call_at(self, when: When, callback: Callable[..., object], *args: object) -> Entry:
        """Have it called at a moment of the monotonic clock, or a datetime."""
        return self.timer.call_at(when, callback, args)

    def call_repeatedly(self, delay: float, callback: Callable[..., object], *args: object) -> Entry:
        """Have it called every ``delay`` seconds."""
        return self.timer.call_repeatedly(delay, callback, args)

    def _pop_ready(self) -> deque[Callable[[], object]]:
        """Take out all calls that are waiting."""
        return self._ready.take()

    # Files

    def add(
        self,
        fd: FileDescriptorLike,
        callback: Any,
        flags: int,
        args: tuple[object, ...] = (),
        consolidate: bool = False,
    ) -> None:
        """Watch a file for events: READ makes it a reader, else it is a writer.

        ``callback`` is called with ``args``, or, if it is a generator, stepped.  Raises ``OSError`` for a closed one.
        """
        number = fileno(fd)
        try:
            self.poller.register(number, flags)
        except ValueError:
            self._forget(number)
            raise
        watched = self.readers if flags & READ else self.writers
        if consolidate:
            self.consolidate.add(number)
            watched[number] = None
        else:
            watched[number] = callback, args

    def add_reader(self, fds: FileDescriptorLike, callback: Callback, *args: object) -> None:
        """Watch a file for something to read."""
        self.add(fds, callback, READ | ERR, args)

    def add_writer(self, fds: FileDescriptorLike, callback: Callback, *args: object) -> None:
        """Watch a file for room to write."""
        self.add(fds, callback, WRITE, args)

    def remove(self, fd: FileDescriptorLike) -> None:
        """Watch a file no longer."""
        number = fileno(fd)
        if self._poller is not None:
            self._poller.unregister(number)
        self._forget(number)

    def _forget(self, number: int) -> None:
        self.readers.pop(number, None)
        self.writers.pop(number, None)
        self.consolidate.discard(number)

    def remove_reader(self, fd: FileDescriptorLike) -> None:
        """Watch a file no longer for something to read; for room to write, if it was."""
        number = fileno(fd)
        writer = self.writers.get(number)
        together = number in self.consolidate
        self.remove(number)
        if writer is not None:
            self.add(number, writer[0], WRITE, writer[1])
        elif together:
            self.add(number, None, WRITE | ERR, consolidate=True)

    def remove_writer(self, fd: FileDescriptorLike) -> None:
        """Watch a file no longer for room to write; for something to read, if it was."""
        number = fileno(fd)
        if number in self.writers:
            reader = self.readers.get(number)
            self.remove(number)
            if reader is not None:
                self.add(number, reader[0], READ | ERR, reader[1])

    # In words

    def repr_active(self) -> str:
        """All that is watched."""
        return debug.repr_active(self)

    def repr_events(self, events: Iterable[tuple[int, int]]) -> str:
        """Events that came, each with whom it is for."""
        return debug.repr_events(self, events)
