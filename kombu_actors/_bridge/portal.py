"""The bridge: plain threads on one side, the trio runtime on the other.

One background thread runs trio for the whole process while anyone holds a lease on it (``leases.py``).  The
facade's calls become jobs in it; deliveries come back through an inbox (``inbox.py``) drained in
the caller's thread, so user code never runs on the runtime's thread and can't stop a heartbeat.

Rules:

* a deadline is set inside trio, never as a timeout of the waiting thread, so that a job never
  outlives its caller;
* a waiting thread that is interrupted (Ctrl-C) cancels its job and waits for its end; interrupted
  once more, it waits no longer;
* a signal handler may raise at any bytecode of the main thread, or call anything here: no lock is
  taken twice but reentrant ones, and what must be undone can be undone twice;
* a call that arrives when the runtime has ended fails; it can't crash trio's run.  When the runtime
  has died all the same, every call that waits for it fails, and the next lease is on a new one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from .._logs import get_logger, present_relay
from .._values.originals import pristine, unpatch_runtime
from ..errors import RuntimeDied, RuntimeStopped
from .bells import ThreadBell
from .doorbell import Doorbell
from .jobs import Job
from .sockets import OwnSockets
from .tenant import Tenant, for_nobody

T = TypeVar("T")
logger = get_logger("kombu_actors.portal")

START_PATIENCE = 10.0
"""Seconds for the runtime's thread to start, which takes milliseconds, on a machine that is very busy."""
DESCRIPTORS = 8
"""File descriptors that trio's run takes, and two for a first socket."""


class CannotWait(RuntimeError):
    """A signal handler would wait for what it has interrupted itself."""


class Portal:
    """The runtime thread.  Get it with ``leases.lease()``; give it back with ``leases.release()``.

    ``give_back(tenant)`` is called when a tenant has left.
    """

    def __init__(self, give_back: Callable[[Tenant], object]) -> None:
        self.drained = False
        """Whether the process is exiting: a tree that starts now is drained by nobody, so each publish waits."""
        self.ended = False
        """Whether it has ended, or is ending: whoever comes now needs another."""
        self._main_is_past = False
        """Whether the main thread, where signal handlers run, is at a socket just now, past the runtime."""
        self._failure: BaseException | None = None
        self._doorbell = Doorbell()
        self._sockets = OwnSockets()
        self.post = self._doorbell.post
        """Have a function called in the runtime soon, from any thread."""
        self.queue = self._doorbell.queue
        """Have a function called in the runtime before whatever is posted next, from any thread."""
        self._nursery: trio.Nursery | None = None
        self._jobs: set[Job] = set()
        self._tenants: set[Tenant] = set()
        self._give_back = give_back
        self._stop = trio.Event()
        self._started = ThreadBell()  # also under gevent: who starts it holds a lock, and no greenlet is to meet it
        self._get_ident = pristine("_thread").get_ident
        self._thread = pristine("threading").Thread(target=self._run, name="kombu_actors", daemon=True)

    def start(self) -> None:
        """Start the thread; raises why it can't be."""
        unpatch_runtime()
        try:
            self._doorbell.check_descriptors(DESCRIPTORS)
            self._thread.start()
            self._started.wait(START_PATIENCE)
            if self._nursery is None:
                raise self._failure or TimeoutError(f"its thread did not begin within {START_PATIENCE:g} s")
        except BaseException:
            self.end()
            if self._thread.ident is None:
                self._doorbell.close()  # as the thread would have done
            raise

    def call(self, fn: Callable[..., Awaitable[T]], *args: object, timeout: float | None) -> T:
        """Run ``await fn(*args)`` in the runtime and wait for its result.

        Raises:
            DeadlineExceeded: it took longer than ``timeout`` seconds; it has been cancelled.
            RuntimeDied: the runtime has died meanwhile, or before.
            RuntimeStopped: the runtime has ended, or the interpreter has, and only finalizers are left to run.
        """
        check_interpreter()
        if self._get_ident() == self._thread.ident:
            raise RuntimeError(
                "a blocking call was made from kombu_actors' own runtime thread, where it would wait for itself; "
                "in trio code use kombu_actors.broker.open_broker instead"
            )
        if self.interrupted_past():
            raise CannotWait(
                "a signal handler that interrupted a publish, an ack or an event loop's reading can't wait for the "
                "broker: those bytes come first.  It may publish, ack, wake, release and close; leave the rest to the "
                "program"
            )
        job = Job(fn, args, timeout)
        try:
            self.begin(job)
            job.wait()
        except RuntimeStopped:
            raise
        except BaseException:
            self._withdraw(job)
            raise
        if job.error is not None:
            try:
                raise job.error
            finally:
                del job  # the traceback would keep the job, and the job the error, alive
        result: T = job.result
        return result

    def begin(self, job: Job) -> None:
        """Have a call made; whoever asked waits by the job's bell.

        Raises:
            RuntimeDied, RuntimeStopped: as ``call``.
        """
        try:
            self.post(self._start, job)
        except RuntimeStopped:
            raise self._stopped() from self._failure

    def past(self, act: Callable[[], T], amend: Callable[[], object]) -> T:
        """Have ``act`` read or write at a socket in the calling thread, past the runtime.

        The runtime may have to wait for its end.  Interrupted, ``amend`` is called there.
        """
        in_main = threading.get_ident() == threading.main_thread().ident
        outer = in_main and self._main_is_past  # a signal handler may write in the middle of a write
        try:
            if in_main:
                self._main_is_past = True
            return act()
        except BaseException:
            self.post(amend)  # perhaps half-way
            raise
        finally:
            if in_main:
                self._main_is_past = outer

    def interrupted_past(self) -> bool:
        """Whether the caller is a signal handler in the middle of what is done ``past`` the runtime, which waits for
        that."""
        return self._main_is_past and self._get_ident() == threading.main_thread().ident

    def _withdraw(self, job: Job) -> None:
        try:
            self.post(job.cancel)
            job.wait()
        except RuntimeStopped:
            return  # and the job with it

    def _stopped(self) -> RuntimeStopped:
        if self._failure is None:
            return RuntimeStopped("kombu_actors' runtime has ended; make a new Connection")
        died = RuntimeDied(f"kombu_actors' runtime has died ({self._failure!r}); the next use gets a new one")
        died.__cause__ = self._failure
        return died

    def spawn(self, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run ``fn`` as a task of the runtime; for ``post``."""
        if self._nursery is not None:
            self._nursery.start_soon(for_nobody, fn, *args)

    def run_apart(self, fn: Callable[[], object]) -> None:
        """Have ``fn``, which must not raise, called in a thread of its own, or a greenlet.  Runtime thread.

        Who ends the runtime doesn't wait for it: it may be the one.
        """
        relay = present_relay()
        if relay is None:
            self.spawn(partial(trio.to_thread.run_sync, fn, abandon_on_cancel=True))
        else:
            relay.spawn(fn)

    # Tenants

    async def host(self, tenant: Tenant) -> None:
        """Start a connection's tree in the runtime."""
        if self._nursery is None:
            raise RuntimeStopped("kombu_actors' runtime is ending")
        self._tenants.add(tenant)
        await self._nursery.start(tenant.run)

    def dismiss(self, tenant: Tenant, drain: float) -> None:
        """Have a tree drain for ``drain`` seconds, stop, and give its lease back; for ``post``.  Again: hastens it."""
        if self._nursery is None:
            return
        tenant.hasten(trio.current_time() + drain)
        if not tenant.leaving:
            tenant.leaving = True
            self._nursery.start_soon(self._see_off, tenant)

    async def _see_off(self, tenant: Tenant) -> None:
        await for_nobody(tenant.leave)
        self._tenants.discard(tenant)
        self._give_back(tenant)
        tenant.gone()

    # The thread

    def end(self) -> None:
        """Nobody needs it any more."""
        try:
            self.post(self._stop.set)
        except RuntimeStopped:
            logger.debug("the runtime had ended already")
        self.ended = True

    def join(self) -> None:
        """Wait for the thread's end, if it is ending."""
        if self.ended and self._get_ident() != self._thread.ident:
            self._thread.join()

    def _start(self, job: Job) -> None:
        if job.finished:
            return  # whoever asked has been interrupted meanwhile
        if self._nursery is None:
            job.refuse()
            return
        job.begin()
        self._nursery.start_soon(job.run, self._jobs)
        self._jobs.add(job)

    async def _main(self) -> None:
        trio.socket.set_custom_socket_factory(self._sockets)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._doorbell.answer)
            self._started.ring()
            await self._stop.wait()
            self._nursery = None
            nursery.cancel_scope.cancel()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._failure = error
        finally:
            self._bury()

    def _bury(self) -> None:
        """Nothing goes on in the runtime: whoever waits for something of it is told, and its sockets are closed."""
        began, self._nursery, self.ended = self._nursery is not None, None, True
        if self._failure is not None and began:
            logger.critical("the runtime died, and all connections with it", exc_info=self._failure)
        self._doorbell.close()
        why = self._stopped()
        for job in list(self._jobs):
            job.fail(why)
        for tenant in list(self._tenants):
            self._give_back(tenant)
            tenant.gone(why)
        self._sockets.close()
        self._started.ring()


def check_interpreter() -> None:
    """For finalizers that run when the interpreter has ended: the runtime's thread never gets its turn again.

    Raises:
        RuntimeStopped: it has.
    """
    if sys.is_finalizing():
        raise RuntimeStopped("the interpreter is shutting down: publish and release() before the program's end")


def new_lock() -> threading.RLock:
    """A lock for what threads and the runtime share; nobody waits for anything else while holding it."""
    lock: threading.RLock = pristine("threading").RLock()
    return lock
