"""The bridge: plain threads on one side, the trio runtime on the other.

One background thread runs trio for the whole process while anyone holds a lease on it.  The
facade's calls become jobs in it; deliveries come back through an inbox (``_inbox.py``) drained in
the caller's thread, so user code never runs on the runtime's thread and can't stop a heartbeat.

This is the only file that imports both ``threading`` and ``trio``.  Rules:

* a deadline is set inside trio, never as a timeout of the waiting thread, so that a job never
  outlives its caller;
* a waiting thread that is interrupted (Ctrl-C) cancels its job and waits for its end;
* a call that arrives when the runtime has ended fails; it can't crash trio's run.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import trio

from ._doorbell import Doorbell, Refusable
from ._sockets import OwnSockets
from .actors.connection import ConnectionActor
from .errors import ConnectionClosed, DeadlineExceeded, RuntimeStopped

T = TypeVar("T")
logger = logging.getLogger("kombu_actors.portal")

GOODBYE = 0.25
"""Seconds for the broker's goodbye when the drain has used up its time: a round trip to anywhere that answers."""
EXIT_DRAIN = 5.0
"""Seconds that a process which exits without ``release()`` gives its publishes to be confirmed."""


class _Job(Refusable):
    """One call from a thread.  The thread waits on ``done``; the rest belongs to trio."""

    __slots__ = ("args", "done", "error", "fn", "result", "scope", "timeout")

    def __init__(self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], timeout: float | None) -> None:
        self.fn = fn
        self.args = args
        self.timeout = timeout
        self.result: Any = None
        self.error: BaseException | None = None
        self.scope = trio.CancelScope()
        self.done = threading.Lock()
        self.done.acquire()

    async def run(self) -> None:
        if self.timeout is not None:
            self.scope.deadline = trio.current_time() + self.timeout
        expired = True
        try:
            with self.scope:
                try:
                    self.result = await self.fn(*self.args)
                except trio.Cancelled:
                    raise
                except BaseException as error:  # carried to the thread that asked
                    self.error = error
                expired = False
            if expired:
                self.error = DeadlineExceeded(
                    f"{getattr(self.fn, '__name__', 'the call')} did not finish within {self.timeout} s"
                )
                expired = False
        finally:
            if expired:
                self.error = RuntimeStopped("the runtime ended while the call was under way")
            self.done.release()

    def refuse(self) -> None:
        """The runtime has ended before the call could begin."""
        self.error = RuntimeStopped("kombu_actors' runtime is ending")
        self.done.release()


class Portal:
    """The runtime thread.  Get it with ``lease()``; give it back with ``release()``."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.drained = False
        """Whether the process is exiting: a tree that starts now is drained by nobody, so each publish waits."""
        self._leases = 0
        self._doorbell = Doorbell()
        self._sockets = OwnSockets()
        self.post = self._doorbell.post
        """Have a function called in the runtime soon, from any thread; it must not raise."""
        self._nursery: trio.Nursery | None = None
        self._stop = trio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="kombu_actors", daemon=True)

    def call(self, fn: Callable[..., Awaitable[T]], *args: Any, timeout: float | None) -> T:
        """Run ``await fn(*args)`` in the runtime and wait for its result.

        Raises:
            DeadlineExceeded: it took longer than ``timeout`` seconds; it has been cancelled.
            RuntimeStopped: the runtime has ended, or the interpreter has, and only finalizers are left to run.
        """
        check_interpreter()
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a blocking call was made from kombu_actors' own runtime thread, where it would wait for itself; "
                "in trio code use kombu_actors.broker.open_broker instead"
            )
        job = _Job(fn, args, timeout)
        self.post(self._start, job)
        try:
            job.done.acquire()
        except BaseException:
            self.post(job.scope.cancel)
            job.done.acquire()
            raise
        if job.error is not None:
            try:
                raise job.error
            finally:
                del job  # the traceback would keep the job, and the job the error, alive
        result: T = job.result
        return result

    async def host(self, actor: ConnectionActor) -> Tenant:
        """Start a connection's tree in the runtime."""
        assert self._nursery is not None
        tenant = Tenant(actor)
        await self._nursery.start(tenant.run)
        return tenant

    def spawn(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run ``fn`` as a task of the runtime; for ``post``."""
        if self._nursery is not None:
            self._nursery.start_soon(fn, *args)

    def run_in_thread(self, fn: Callable[..., object], *args: Any) -> None:
        """Have ``fn``, which must not raise, called in a thread of its own.  Runtime thread.

        Who ends the runtime doesn't wait for it: it may be the one.
        """
        self.spawn(partial(trio.to_thread.run_sync, fn, *args, abandon_on_cancel=True))

    def _start(self, job: _Job) -> None:
        try:
            if self._nursery is None:
                raise RuntimeError("nursery is gone")
            self._nursery.start_soon(job.run)
        except RuntimeError:
            job.refuse()

    async def _main(self) -> None:
        trio.socket.set_custom_socket_factory(self._sockets)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._doorbell.answer)
            self._started.set()
            await self._stop.wait()
            self._nursery = None
            nursery.cancel_scope.cancel()


class Tenant:
    """One connection's tree, living in the runtime."""

    def __init__(self, actor: ConnectionActor) -> None:
        self.actor = actor
        self._leave = trio.Event()
        self._gone = trio.Event()
        self._chores: trio.Nursery | None = None

    @property
    def left(self) -> bool:
        """Whether the tree has been told to stop.  Any thread."""
        return self._leave.is_set()

    def spawn(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run ``fn``, which must not raise, for as long as the tree runs at most; for ``post``."""
        if self._chores is not None:
            self._chores.start_soon(fn, *args)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Run the tree until ``leave``; its failure is kept in ``actor.failure`` for those who ask."""
        try:
            async with self.actor.running(), trio.open_nursery() as chores:
                self._chores = chores
                task_status.started()
                try:
                    await self._leave.wait()
                finally:
                    self._chores = None
                    chores.cancel_scope.cancel()
        except Exception as error:
            if error is not self.actor.failure:
                self.actor.failure = error
            logger.info("supervision of the connection gave up: %r", error)
        finally:
            self._gone.set()

    async def leave(self, drain: float) -> int:
        """Give the ledgers ``drain`` seconds, then stop the tree.  Returns how many publishes stayed unconfirmed.

        What the drain leaves of its time the goodbye may use; then the socket is closed without an answer.
        """
        deadline = trio.current_time() + drain
        publishers = [channel.publisher for channel in self.actor.channels.values()]
        for channel in self.actor.channels.values():
            channel.collect()
        if self.actor.failure is None:
            with trio.move_on_at(deadline):
                for publisher in publishers:
                    await publisher.wait_empty()
        unconfirmed = sum(publisher.under_way for publisher in publishers)
        self._leave.set()
        with trio.move_on_at(max(deadline, trio.current_time() + GOODBYE)):
            await self._gone.wait()
        link = self.actor.session.link
        if not self._gone.is_set() and link is not None:
            link.kill(ConnectionClosed("the connection was closed without waiting any longer for the broker's goodbye"))
        await self._gone.wait()
        return unconfirmed


def check_interpreter() -> None:
    """For finalizers that run when the interpreter has ended: the runtime's thread never gets its turn again.

    Raises:
        RuntimeStopped: it has.
    """
    if sys.is_finalizing():
        raise RuntimeStopped("the interpreter is shutting down: publish and release() before the program's end")


def new_lock() -> threading.RLock:
    """A lock for what threads and the runtime share, for as long as this process's runtime lives."""
    return threading.RLock()


_lock = threading.Lock()
_portal: Portal | None = None
_tenants: dict[int, tuple[Portal, Tenant]] = {}
_told_multiprocessing = False


def lease() -> Portal:
    """The process's runtime, started when this is the first lease."""
    global _portal
    with _lock:
        if _portal is None:
            _portal = Portal()
            _portal._thread.start()
            _portal._started.wait()
            _tell_multiprocessing()
        _portal._leases += 1
        return _portal


def release(portal: Portal, *, wait: bool = True) -> None:
    """Give one lease back; the last one ends the runtime and joins its thread (unless not to ``wait``)."""
    global _portal
    with _lock:
        portal._leases -= 1
        if portal._leases or portal is not _portal:
            return
        _portal = None
    portal.post(portal._stop.set)
    if wait and threading.current_thread() is not portal._thread:
        portal._thread.join()


def start_tree(actor: ConnectionActor) -> tuple[Portal, Tenant]:
    """Lease the runtime and start a connection's tree in it."""
    portal = lease()
    try:
        tenant = portal.call(portal.host, actor, timeout=None)
    except BaseException:
        release(portal)
        raise
    _tenants[id(tenant)] = (portal, tenant)
    return portal, tenant


def stop_tree(portal: Portal, tenant: Tenant, drain: float) -> int:
    """Drain the ledgers, stop the tree, give the lease back; returns how many publishes stayed unconfirmed."""
    if _tenants.pop(id(tenant), None) is None:
        return 0
    try:
        return portal.call(tenant.leave, drain, timeout=None)
    finally:
        release(portal)


def abandon_tree(portal: Portal, tenant: Tenant) -> None:
    """``stop_tree`` for an owner that was garbage-collected: waits for nothing, in any thread."""
    if _tenants.pop(id(tenant), None) is not None:
        portal.post(portal.spawn, _leave_and_release, portal, tenant)


async def _leave_and_release(portal: Portal, tenant: Tenant) -> None:
    unconfirmed = await tenant.leave(EXIT_DRAIN)
    if unconfirmed:
        logger.error("a connection was dropped without release(): %d publishes stayed unconfirmed", unconfirmed)
    release(portal, wait=False)


def pause(portal: Portal, seconds: float) -> None:
    """Sleep in the calling thread, interruptibly, until the runtime's clock says so."""
    portal.call(trio.sleep, seconds, timeout=None)


def _drain_at_exit() -> None:
    """Stop all trees, but not the runtime: functions registered with ``atexit`` before us may publish yet.

    Their connections are opened anew, as in a forked child: from Python 3.12 on an exiting process can't start
    the thread that they need, so the lease taken here is never given back.
    """
    if _portal is not None:
        lease().drained = True
    for portal, tenant in list(_tenants.values()):
        unconfirmed = stop_tree(portal, tenant, EXIT_DRAIN)
        if unconfirmed:
            logger.error("the process ends with %d publishes not confirmed by the broker", unconfirmed)


def _tell_multiprocessing() -> None:
    """Drain also at the end of multiprocessing's children, which end without atexit before Python 3.14."""
    global _told_multiprocessing
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not _told_multiprocessing:
        _told_multiprocessing = True
        util.Finalize(None, _drain_at_exit, exitpriority=0)


def _start_afresh() -> None:
    """In a forked child nothing of the parent's runtime is alive, and its publishes are the parent's."""
    global _portal, _lock, _told_multiprocessing
    _lock = threading.Lock()
    _portal = None
    _told_multiprocessing = False
    _tenants.clear()


atexit.register(_drain_at_exit)
os.register_at_fork(after_in_child=_start_afresh)
