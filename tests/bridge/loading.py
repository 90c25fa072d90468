"""A process in which nothing of ours is loaded: ``python -m tests.bridge.loading WAY URL``; it fails if it finds fault.

Those of the ways that try a moment try many, each in a child: what is loaded can't be unloaded.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from kombu_actors import Connection, Consumer, Message, Producer, Queue

RUNTIME = (
    "trio",
    "kombu_actors.actors",
    "kombu_actors.supervisors",
    "kombu_actors.transport.",
    "kombu_actors.protocols.",
)
assert not any(name.startswith(RUNTIME) for name in sys.modules), "the runtime is loaded already"

URL = "memory://loading"
PATIENCE = 20
"""Seconds for a child, which takes half of one."""
MOMENTS = 12
"""How many moments of loading are tried, evenly distributed."""


def everyday(url: str) -> None:
    """Publish a message, and receive it."""
    with Connection(url) as connection:
        queue, got = Queue("loading"), list[Any]()

        def receive(body: Any, message: Message) -> None:
            got.append(body)
            message.ack()

        Producer(connection).publish("x", routing_key="loading", declare=[queue])
        with Consumer(connection, [queue], callbacks=[receive]):
            connection.drain_events(timeout=10)
        assert got == ["x"]


def in_child(act: Callable[[], object]) -> bool:
    """Whether ``act`` ended well, and in time, in a forked child."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    status = 1
    try:
        signal.alarm(PATIENCE)
        act()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def moments() -> list[float]:
    """Some of the time that loading takes here."""
    began = time.monotonic()
    assert in_child(lambda: Connection(URL))
    return [(time.monotonic() - began) / MOMENTS * number for number in range(1, MOMENTS)]


def interrupted(delay: float) -> None:
    """A signal handler raises while the first connection loads the runtime; the next one works."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGVTALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, delay)
        Connection(URL)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except KeyboardInterrupt:
        pass
    everyday(URL)


def handled(delay: float) -> None:
    """A signal handler uses a connection while another one loads the runtime, which both have then."""
    signal.signal(signal.SIGVTALRM, lambda number, frame: everyday(URL))
    signal.setitimer(signal.ITIMER_VIRTUAL, delay)
    Connection(URL)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    everyday(URL)


def forked(delay: float) -> None:
    """The process forks while another thread loads the runtime; the child can load it, too."""
    loader = threading.Thread(target=Connection, args=(URL,))
    loader.start()
    time.sleep(delay)
    assert in_child(lambda: everyday(URL))
    loader.join()


def together() -> None:
    """The first connections of many threads."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(16)

    def run(number: int) -> None:
        try:
            barrier.wait()
            everyday(f"memory://loading-{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def threadless() -> None:
    """No thread can be started when the first connection is made; when it connects, either, and then there is one."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    start, threading.Thread.start = threading.Thread.start, refuse  # type: ignore[method-assign]  # of the world's
    connection = Connection(URL)
    told: list[str] = []
    try:
        connection.connect()
    except connection.connection_errors as error:
        told.append(str(error))
    assert ["could not start its runtime" in text for text in told] == [True]
    threading.Thread.start = start  # type: ignore[method-assign]  # likewise
    connection.connect()
    connection.release()
    everyday(URL)


def ended() -> None:
    """The thread that loads is slow to end."""

    def linger(frame: FrameType, event: str, argument: object) -> None:
        if event == "return" and frame.f_code.co_name == "_load":
            time.sleep(0.2)

    threading.setprofile(linger)
    Connection(URL)
    threading.setprofile(None)
    assert [thread.name for thread in threading.enumerate() if "loading" in thread.name] == []


def at_exit(url: str) -> None:
    """What was registered after our names were imported runs before the connections are drained."""
    connection = Connection(url)
    connection.connect()

    def look() -> None:
        from kombu_actors._bridge import leases

        assert leases._portal is not None
        if leases._portal.drained:
            os._exit(1)

    _last.append(look)


_last: list[Callable[[], object]] = []
atexit.register(lambda: [act() for act in _last])


def all_loaded(url: str) -> None:
    """Once there is a connection, using it loads nothing of ours."""
    connection = Connection(url)
    before = set(sys.modules)
    connection.connect()
    everyday(url)
    connection.SimpleQueue("loading-simple").close()
    connection.release()
    atexit.register(lambda: os._exit(len(late(before)) != 0))


def late(before: set[str]) -> list[str]:
    """What of ours, or of the runtime's, has been loaded since then, ``simple``'s excepted, which were asked for."""
    found = [name for name in set(sys.modules) - before if name.startswith(("trio", "kombu_actors", "redis", "amqp"))]
    return sorted(set(found) - {"kombu_actors.simple", "kombu_actors._facade.queue_channels"})


if __name__ == "__main__":
    way, url = sys.argv[1:]
    match way:
        case "interrupted" | "handled" | "forked":
            trial = {"interrupted": interrupted, "handled": handled, "forked": forked}[way]
            times = moments()
            failed = [delay for delay in times if not in_child(partial(trial, delay))]
            assert failed == [], f"failed at {failed} of {times}"
        case "together":
            together()
        case "threadless":
            threadless()
        case "ended":
            ended()
        case "at-exit":
            at_exit(url)
        case "all-loaded":
            all_loaded(url)
