"""The runtime's thread outlives the errors of others; if it dies all the same, everybody hears of it."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
import trio

from kombu_actors import Connection, Producer, Queue
from kombu_actors._bridge import leases
from kombu_actors._bridge import portal as bridge
from kombu_actors._bridge.tenant import Tenant
from kombu_actors.errors import BrokerUnreachable, OperationalError, RuntimeDied, RuntimeStopped
from tests.support.interrupts import no_longer_than
from tests.support.leaks import no_leaks

_dead: list[bridge.Portal] = []
"""Kept for good: what trio leaves of a run that died complains when it is collected, in whichever test that is."""


def runtime_of(connection: Connection) -> bridge.Portal:
    """The runtime that serves a connection."""
    portal: bridge.Portal = connection._runs.running().portal
    return portal


def kill_runtime(portal: bridge.Portal) -> None:
    """End trio's run by what it calls a bug of its own."""

    def cannot_be_aborted(_: object) -> NoReturn:
        raise ZeroDivisionError("a bug of somebody's")

    async def die() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.lowlevel.wait_task_rescheduled(cannot_be_aborted)

    with contextlib.suppress(RuntimeStopped):  # it is as quick as that
        portal.post(portal.spawn, die)
    portal._thread.join()
    _dead.append(portal)


class CallbackFailed(BaseException):
    """Not even an Exception: what a careless callback may raise."""


def test_no_exception_of_a_call_a_callback_or_a_task_ends_the_runtime(caplog: pytest.LogCaptureFixture) -> None:
    """Each is told to its caller, or logged where nobody waits; connections go on."""

    async def fail(error: BaseException) -> NoReturn:
        raise error

    def fail_at_once(error: BaseException) -> NoReturn:
        raise error

    with Connection("memory://unharmed") as connection, no_longer_than(30):
        connection.connect()
        portal = runtime_of(connection)
        for error in (ZeroDivisionError("of a call"), CallbackFailed("of a call"), SystemExit(1)):
            with pytest.raises(type(error)):
                portal.call(fail, error, timeout=5)
        with caplog.at_level(logging.ERROR):
            portal.post(fail_at_once, ZeroDivisionError("of a posted call"))
            portal.post(portal.spawn, fail, ZeroDivisionError("of a task"))
            connection.later(fail, ZeroDivisionError("of a chore"))
            Queue("q")(connection).declare()
        assert runtime_of(connection) is portal
        assert connection._runs.running().connected
    for text in ("of a posted call", "of a task", "of a chore"):
        assert text in caplog.text


def test_a_callback_in_one_tree_ends_that_connection_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """``failover_strategy`` is the program's, and called in the runtime: what it raises is its connection's affair."""

    def strategy(urls: Any) -> Iterator[str]:
        if urls:
            raise CallbackFailed("of the strategy")
        yield ""

    with Connection("memory://neighbour") as neighbour, no_longer_than(30):
        neighbour.connect()
        careless = Connection("memory://careless;memory://careless", failover_strategy=strategy)
        with pytest.raises((CallbackFailed, Exception)):
            careless.connect()
        Queue("q")(neighbour).declare()
        assert neighbour.connected


def test_when_the_runtime_dies_every_waiting_call_is_told_and_the_next_use_gets_a_new_one(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A declaration under way, a thread that drains, a lease that is never given back: all are told the cause, at once;
    old connections and new ones work again, on one new runtime."""
    forgotten = Connection(url)
    forgotten.connect()
    connection = Connection(url)
    Queue("survives", auto_delete=False)(connection).declare()
    connection.Consumer([Queue("survives", auto_delete=False)]).consume()
    portal = runtime_of(connection)
    told: list[BaseException] = []

    def wait(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            told.append(error)

    calls: list[Callable[[], object]] = [
        lambda: portal.call(trio.sleep_forever, timeout=None),
        lambda: portal.call(trio.sleep, 1000, timeout=1000),
        lambda: connection.drain_events(),
    ]
    threads = [threading.Thread(target=wait, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    tree = connection._runs.running()
    with no_longer_than(30), caplog.at_level(logging.CRITICAL):
        while len(portal._jobs) < 2 or not tree.inbox._sleepers:
            threading.Event().wait(0.001)  # until all three wait
        kill_runtime(portal)
        for thread in threads:
            thread.join(10)
        assert [type(error) for error in told] == [RuntimeDied] * 3
        assert all(isinstance(error.__cause__, trio.TrioInternalError) for error in told)
        assert "the runtime died" in caplog.text
        with Connection(url) as new:
            new.connect()
            assert runtime_of(new) is not portal
            Producer(connection).publish("x", routing_key="survives", retry=True)
            assert runtime_of(connection) is runtime_of(new)
            message = None
            while message is None:
                message = Queue("survives", auto_delete=False)(connection).get()
            assert message.payload == "x"
            message.ack()
            Queue("survives", auto_delete=False)(connection).delete()
        connection.release()
        forgotten.release()
    assert not any(isinstance(holder, Tenant) for holder in leases._leases)


def test_a_runtime_that_died_leaves_no_descriptor_behind(amqp_url: str) -> None:
    """Its sockets are closed, so that the broker gives back what its consumers had."""
    with no_leaks():
        connection = Connection(amqp_url)
        connection.connect()
        kill_runtime(runtime_of(connection))
        connection.release()
        del connection


@contextmanager
def no_descriptors(left: int) -> Iterator[None]:
    """While the block runs, the process can open ``left`` files more."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, former[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(held.pop())
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.mark.parametrize("left", [0, 1, 2, 5, 9])
def test_without_descriptors_connecting_fails_in_time_and_works_again_when_there_are_some(url: str, left: int) -> None:
    """However many the runtime and the socket got of those they need."""
    connection = Connection(url, connect_timeout=2)
    with no_leaks(), no_longer_than(30):
        with no_descriptors(left), pytest.raises((OperationalError, OSError), match="Too many open files"):
            connection.connect()
        with connection:
            connection.ensure_connection(timeout=10)
            Queue("q")(connection).declare()


def test_without_threads_connecting_fails_at_once_and_works_again_when_there_are_some(url: str) -> None:
    """The sentence says what is missing."""

    def cannot(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    connection = Connection(url)
    with no_leaks(), no_longer_than(30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "_start_new_thread", cannot, raising=False)
            patch.setattr(threading, "_start_joinable_thread", cannot, raising=False)  # Python 3.13
            with pytest.raises(BrokerUnreachable, match="can't start new thread"):
                connection.connect()
            with pytest.raises(OperationalError):
                connection.ensure_connection(max_retries=1, interval_start=0)
        with connection:
            connection.connect()
