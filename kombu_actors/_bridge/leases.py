"""Who needs the runtime: it starts for the first of them, ends with the last, and is drained when the process exits."""

from __future__ import annotations

import os
import sys
from functools import partial

from .._logs import get_logger
from ..errors import BrokerUnreachable, RuntimeStopped
from . import exiting
from .portal import DESCRIPTORS, START_PATIENCE, Portal, new_lock
from .tenant import Tenant

__all__ = ["abandon_tree", "lease", "release", "start_tree", "stop_tree"]

logger = get_logger("kombu_actors.portal")

EXIT_DRAIN = 5.0
"""Seconds that a process which exits without ``release()`` gives its publishes to be confirmed."""
START_ATTEMPTS = 3
"""How often a connection looks for a runtime: the one it found may be ending just then."""

_lock = new_lock()
_portal: Portal | None = None
_leases: dict[object, Portal] = {}
"""Who needs which runtime; a runtime that nobody needs ends."""
_told_multiprocessing = False


def lease(holder: object) -> Portal:
    """The process's runtime, started when there is none, for as long as ``holder`` needs it.

    Raises:
        BrokerUnreachable: it can't be started.
    """
    global _portal
    with _lock:
        portal = _portal
        try:
            if portal is None or portal.ended:
                portal = Portal(partial(release, wait=False))
                portal.start()
                _portal = portal
                _tell_multiprocessing()
            _leases[holder] = portal
        except BaseException as error:
            if portal is not None:
                _end_unless_needed(portal)
            if isinstance(error, OSError | RuntimeError):
                raise BrokerUnreachable(
                    f"kombu_actors could not start its runtime: {error}. It takes one thread and {DESCRIPTORS + 2} "
                    "file descriptors; try again when the process has them"
                ) from error
            raise
        return portal


def release(holder: object, *, wait: bool = True) -> None:
    """Give a lease back, if there is one; the last one ends the runtime and joins its thread (if to ``wait``)."""
    # Without the lock: a thread that holds it may be in a signal handler, waiting for the runtime, which releases, too.
    # Whoever gets a lease on a runtime that is ending just then is told, and looks for another.
    portal = _leases.pop(holder, None)
    if portal is not None:
        _end_unless_needed(portal)
        if wait:
            portal.join()


def _end_unless_needed(portal: Portal) -> None:
    if not portal.ended and portal not in list(_leases.values()):
        portal.end()


def start_tree(tenant: Tenant) -> Portal:
    """Lease the runtime and start a connection's tree in it.

    Raises:
        BrokerUnreachable: the runtime can't be started.
    """
    try:
        for attempt in range(START_ATTEMPTS):
            portal = lease(tenant)
            try:
                portal.call(portal.host, tenant, timeout=START_PATIENCE)
            except RuntimeStopped:
                release(tenant)
                if attempt == START_ATTEMPTS - 1:
                    raise
            else:
                break
    except BaseException:
        abandon_tree(tenant, 0)
        raise
    return portal


def stop_tree(tenant: Tenant, drain: float) -> int:
    """Drain the ledgers, stop the tree, give the lease back; returns how many publishes stayed unconfirmed.

    Interrupted, it drains no longer; interrupted once more, the tree is stopped without anybody waiting.
    """
    portal = _leases.get(tenant)
    if portal is None:
        return 0
    if portal.interrupted_past():
        abandon_tree(tenant, drain)
        return 0
    try:
        _see_it_go(portal, tenant, drain)
    except BaseException:
        _see_it_go(portal, tenant, 0)
        tenant.report_unconfirmed()
        raise
    portal.join()
    unconfirmed, tenant.unconfirmed = tenant.unconfirmed, 0
    return unconfirmed


def _see_it_go(portal: Portal, tenant: Tenant, drain: float) -> None:
    try:
        portal.post(portal.dismiss, tenant, drain)
        portal.call(tenant.wait_over, timeout=None)
    except RuntimeStopped:
        release(tenant)  # it went with its runtime


def abandon_tree(tenant: Tenant, drain: float = EXIT_DRAIN) -> None:
    """``stop_tree`` for an owner that was garbage-collected, or interrupted: waits for nothing, in any thread."""
    portal = _leases.get(tenant)
    if portal is not None:
        try:
            portal.post(portal.dismiss, tenant, drain)
        except RuntimeStopped:
            release(tenant, wait=False)


def _drain_at_exit() -> None:
    """Stop all trees, but not the runtime: functions registered with ``atexit`` before us may publish yet.

    Their connections are opened anew, as in a forked child: from Python 3.12 on an exiting process can't start
    the thread that they need, so the lease taken here is never given back.
    """
    if _portal is not None:
        lease(_drain_at_exit).drained = True
    for holder in list(_leases):
        unconfirmed = stop_tree(holder, EXIT_DRAIN) if isinstance(holder, Tenant) else 0
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
    _lock = new_lock()
    _portal = None
    _told_multiprocessing = False
    _leases.clear()


exiting.drains.append(_drain_at_exit)
os.register_at_fork(after_in_child=_start_afresh)
