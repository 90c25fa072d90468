"""Signal handlers may call anything, in the middle of anything: no lock is met twice by one thread."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from functools import partial

import pytest

from kombu_actors import Connection, Producer, Queue
from kombu_actors._bridge import leases
from kombu_actors._bridge.portal import CannotWait
from kombu_actors._bridge.tenant import Tenant
from kombu_actors.message import Message
from soak._blocking_calls import BLOCKING_CALLS, BlockingCall, until
from tests.support.interrupts import at_each_point, no_longer_than, points_of

MANY, FEW = 60, 20
"""Points at which the handler runs, evenly spread."""


class Handler:
    """A handler that publishes, acknowledges, wakes, declares, opens, forgets and releases connections."""

    def __init__(self, call: BlockingCall) -> None:
        self.call = call
        self.queue = Queue("of-the-handler", auto_delete=False)(call.channel)
        self.queue.declare()
        self.queue.purge()
        self.watch = call.connection.watch_sessions(print, print, print)
        self.watch.__enter__()
        self.held: Message | None = None
        self.other: Connection | None = None
        self.published = 0
        self.got = 0
        self.could_not_wait = 0

    def publish(self) -> None:
        """On the channel that may be publishing just now."""
        Producer(self.call.channel).publish("from the handler", routing_key=self.queue.name)
        self.published += 1

    def prepare(self) -> None:
        """Have a message to acknowledge and a connection to release, for the next time."""
        if self.held is None or self.held.acknowledged:
            self.publish()
            until(self._get, "what the handler published did not arrive")
        if self.other is None:
            self.other = Connection(self.call.url)
            self.other.connect()

    def _get(self) -> bool:
        self.held = self.queue.get()
        self.got += self.held is not None
        return self.held is not None

    def acknowledge(self) -> None:
        """A message taken before, over the same channel."""
        assert self.held is not None
        self.held.ack()

    def release(self) -> None:
        """A connection opened before."""
        assert self.other is not None
        other, self.other = self.other, None
        other.release()

    def wake(self) -> None:
        """What ``should_stop`` does."""
        self.watch.wake()

    def declare(self) -> None:
        """A request and its answer, but in the middle of a write of this very thread."""
        try:
            self.queue.queue_declare(passive=True)
        except CannotWait:
            self.could_not_wait += 1

    def connect(self) -> None:
        """Another connection, opened and released; likewise."""
        with contextlib.suppress(CannotWait), Connection(self.call.url) as other:
            other.connect()

    def forget(self) -> None:
        """A connection that is dropped without release; its finalizer runs in the collector."""
        with contextlib.suppress(CannotWait):
            Connection(self.call.url).connect()
        gc.collect(0)

    def close(self) -> None:
        """What the handler published has arrived, each once."""
        if self.held is not None and not self.held.acknowledged:
            self.held.ack()
        while self.got < self.published:
            until(self._get, "what the handler published did not arrive")
            if self.held is not None:
                self.held.ack()
        assert self.queue.get() is None
        if self.other is not None:
            self.other.release()


WAYS = ("publish", "acknowledge", "wake", "release", "declare", "connect", "forget")
CALLS = ("declare", "connect, release", "channel, close", "publish, lone", "publish, loop", "drain_events", "pools")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CALLS)
def test_a_handler_may_do_anything_in_the_middle_of_a_call(kind: str, way: str) -> None:
    """In memory, where every point of a call can be tried in reasonable time."""
    _let_the_handler_run(f"memory://handler-{kind}-{way}", kind, way, MANY if way in ("publish", "wake") else FEW)


@pytest.mark.parametrize("way", ["publish", "acknowledge", "release", "declare"])
@pytest.mark.parametrize("kind", ["publish, lone", "publish, loop", "drain_events"])
def test_a_handler_may_publish_and_ack_while_the_program_does(amqp_url: str, kind: str, way: str) -> None:
    """Over a socket that both write to: every publish arrives, and every confirm is its publish's."""
    _let_the_handler_run(amqp_url, kind, way, MANY)


def _let_the_handler_run(url: str, kind: str, way: str, points: int) -> None:
    with no_longer_than(100):
        call = BLOCKING_CALLS[kind](url)
        try:
            handler = Handler(call)
            call.check()
            every = max(points_of(call.act) // points, 1)
            call.between()
            call.check()
            handler.prepare()
            happen: Callable[[], object] = getattr(handler, way)
            assert at_each_point(call.act, happen, partial(_check, call, handler), every=every) > 10
            handler.close()
            call.close()
        finally:
            call.connection.release()
        until(lambda: not any(isinstance(holder, Tenant) for holder in leases._leases), "a tree is left")


def _check(call: BlockingCall, handler: Handler, where: str) -> None:
    try:
        handler.prepare()
        call.between()
        call.trees += 10  # the handler's own, which end in their own time
        call.check()
        call.trees -= 10
    except BaseException as error:
        error.add_note(f"after a handler ran at {where}")
        raise
