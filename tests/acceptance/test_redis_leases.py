"""A message belongs to one process while it lives, to the next one soon after its death, and never to both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import kombu
import pytest

import kombu_actors
from kombu_actors import Connection, Queue
from kombu_actors.message import Message
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = ("setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.acceptance.redis_worker")
VISIBILITY = 3
HANDLING = 10
PATIENCE = 20.0
LEASE = 2
"""Seconds until a frozen process counts as dead, where a test waits for it."""


@attrs.frozen
class Worker:
    """A consumer process that does what it is told."""

    process: subprocess.Popen[str]

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """The next that it says."""
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def take(self, count: int) -> list[Any]:
        """Have it receive, and keep, so many messages."""
        self.tell(f"take {count}")
        return [self.hear()["got"] for _ in range(count)]

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


@contextmanager
def worker(url: str, queue: str, *, prefetch: int, **options: Any) -> Iterator[Worker]:
    """One that consumes from a queue."""
    with subprocess.Popen(
        [*PROGRAM, url, queue, str(prefetch), json.dumps(options)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            told = Worker(process)
            assert told.hear() == {"ready": True}
            yield told
        finally:
            process.kill()


class Heir:
    """A consumer of this process that gets what others lose."""

    def __init__(self, url: str, queue: str, **options: Any) -> None:
        self.connection = Connection(url, transport_options=options)
        self.consumer = self.connection.Consumer([Queue(queue)], on_message=self._handle)
        self.got: list[tuple[Any, bool]] = []

    def _handle(self, message: Message) -> None:
        self.got.append((message.payload, message.delivery_info["redelivered"]))
        message.ack()

    def __enter__(self) -> Heir:
        self.consumer.consume()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.consumer.cancel()
        self.connection.release()

    def wait(self, count: int) -> float:
        """Receive until it has got so many; how many seconds that took."""
        started = time.monotonic()
        while len(self.got) < count:
            self.connection.drain_events(timeout=PATIENCE - (time.monotonic() - started))
        return time.monotonic() - started


def fill(url: str, queue: str, *payloads: Any) -> None:
    """Put messages into a queue."""
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        for payload in payloads:
            connection.Producer().publish(payload, routing_key=queue, declare=[Queue(queue)])


@pytest.mark.slow
def test_a_handler_may_take_longer_than_the_visibility_timeout(redis_url: str) -> None:
    """visibility_timeout=3 and a handler that takes 10 s: handled once, though another consumer of ours and a stock
    one, which looks for abandoned messages at every chance, consume from the same queue."""
    fill(redis_url, "long", "m")
    handling, stolen, over = threading.Event(), threading.Event(), threading.Event()
    handled: list[str] = []

    def handle(body: Any, message: Message) -> None:
        handling.set()
        assert not stolen.wait(HANDLING), "taken from a live handler"
        handled.append("its own consumer")
        message.ack()

    with (
        Connection(redis_url, transport_options={"visibility_timeout": VISIBILITY}) as connection,
        ThreadPoolExecutor(2) as threads,
        connection.Consumer([Queue("long")], callbacks=[handle]),
    ):

        def thieve(library: Any, **options: Any) -> None:
            def take(body: Any, message: Any) -> None:
                handled.append(library.__name__)
                stolen.set()
                message.ack()

            assert handling.wait(PATIENCE)
            options = {"visibility_timeout": VISIBILITY, **options}
            with (
                library.Connection(redis_url, transport_options=options) as own,
                library.Consumer(own, [library.Queue("long")], callbacks=[take]),
            ):
                while not over.is_set():
                    with suppress(TimeoutError):
                        own.drain_events(timeout=0.2)

        thieves = [
            threads.submit(thieve, kombu_actors),
            threads.submit(thieve, kombu, unacked_restore_interval=1, unacked_restore_throttle=1),
        ]
        try:
            connection.drain_events(timeout=PATIENCE)
        finally:
            handling.set()
            over.set()
        for each in thieves:
            each.result(PATIENCE)
        assert Queue("long")(connection.default_channel).queue_declare(passive=True).message_count == 0
    assert handled == ["its own consumer"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"visibility_timeout": VISIBILITY}, {}], ids=["3-s", "an-hour"])
def test_a_killed_process_loses_its_messages_to_the_next_within_ten_seconds(
    redis_url: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """With visibility_timeout=3 and with kombu's default of an hour: they are back at the head, in order, marked."""
    fill(redis_url, "work", *range(4))
    with worker(redis_url, "work", prefetch=4, **options) as killed, Heir(redis_url, "work", **options) as heir:
        assert killed.take(4) == [0, 1, 2, 3]
        fill(redis_url, "work", 4, 5)
        killed.signal(signal.SIGKILL)
        took = heir.wait(6)
    with capsys.disabled():
        print(f"\n  back after {took:.2f} s ({options or 'default'})")
    # The heir had two of its own before.
    assert heir.got == [(4, False), (5, False), (0, True), (1, True), (2, True), (3, True)]
    assert took < 10


@pytest.mark.slow
def test_what_a_killed_process_held_goes_in_front_of_what_waits(redis_url: str) -> None:
    """Nobody consumed when it was killed: who comes next gets its messages first, in their old order."""
    fill(redis_url, "work", *range(6))
    with worker(redis_url, "work", prefetch=4) as killed:
        assert killed.take(4) == [0, 1, 2, 3]
        killed.signal(signal.SIGKILL)
    with Connection(redis_url) as bystander:  # whose process sees to it
        queue = Queue("work")(bystander.default_channel)
        wait_until(
            lambda: queue.queue_declare(passive=True).message_count == 6, timeout=10, waiting_for="all six messages"
        )
        with Heir(redis_url, "work") as heir:
            heir.wait(6)
    assert heir.got == [(0, True), (1, True), (2, True), (3, True), (4, False), (5, False)]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["later", "at once"])
def test_a_process_that_slept_too_long_cannot_ack_what_others_have(redis_url: str, moment: str) -> None:
    """Frozen for longer than its lease, it loses its message to another consumer.  Awake again its ack is stale, and
    it is told: ``StaleDelivery``, or, when the ack comes before it knows, by the log.  It goes on consuming."""
    fill(redis_url, "work", "m")
    with (
        worker(redis_url, "work", prefetch=1, lease=LEASE) as sleeper,
        Heir(redis_url, "work", lease=LEASE) as heir,
        Connection(redis_url) as looking,
    ):
        assert sleeper.take(1) == ["m"]
        sleeper.signal(signal.SIGSTOP)
        heir.wait(1)
        assert heir.got == [("m", True)]
        queue = Queue("work")(looking.default_channel)
        if moment == "at once":
            sleeper.tell("ack")
        sleeper.signal(signal.SIGCONT)
        wait_until(
            lambda: queue.queue_declare(passive=True).consumer_count == 2, timeout=10, waiting_for="it to be back"
        )
        if moment == "later":
            sleeper.tell("ack")
        outcome = sleeper.hear()["ack"]
        heir.consumer.cancel()
        fill(redis_url, "work", "n")
        assert sleeper.take(1) == ["n"]
        sleeper.tell("ack")
        assert sleeper.hear() == {"ack": "ok"}
        wait_until(
            lambda: queue.queue_declare(passive=True).message_count == 0, timeout=10, waiting_for="the second ack"
        )
        sleeper.tell("end")
        log = sleeper.process.communicate()[1]
    assert heir.got == [("m", True)]
    assert outcome == "StaleDelivery" if moment == "later" else outcome in ("StaleDelivery", "ok")
    if outcome == "ok":
        assert "1 decisions (ack, reject, requeue) came too late" in log
        assert "went to others" in log
