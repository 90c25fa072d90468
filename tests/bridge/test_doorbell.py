"""The doorbell: every call posted is carried out, in order, whoever posts it and whatever interrupts that."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from kombu_actors._bridge.doorbell import Doorbell, Refusable
from kombu_actors.errors import RuntimeStopped
from tests.support.interrupts import Interrupted, at_each_point, interrupt, no_longer_than


class Answering:
    """A doorbell that is answered, and what was called."""

    def __init__(self) -> None:
        self.bell = Doorbell()
        self.called: list[Any] = []
        self._stop: trio.CancelScope | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._answer,))

    async def _answer(self) -> None:
        with trio.CancelScope() as self._stop:
            await self.bell.answer()

    def post(self, what: object) -> None:
        self.bell.post(self.called.append, what)

    def wait_answered(self) -> None:
        """Wait until everything posted so far has been called."""
        answered = threading.Event()
        self.bell.post(answered.set)
        assert answered.wait(5), "nobody answers"


@contextmanager
def answering() -> Iterator[Answering]:
    """A thread that answers while the block runs."""
    made = Answering()
    made._thread.start()
    try:
        yield made
    finally:
        made.bell.post(lambda: made._stop.cancel() if made._stop is not None else None)
        made._thread.join(5)
        assert not made._thread.is_alive()


def test_calls_of_many_threads_are_carried_out_each_once_and_each_threads_in_order() -> None:
    """8 threads post 2,000 calls each."""
    with answering() as made:

        def post(thread: int) -> None:
            for number in range(2000):
                made.post((thread, number))

        threads = [threading.Thread(target=post, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made.wait_answered()
    for own in range(8):
        assert [number for thread_number, number in made.called if thread_number == own] == list(range(2000))


def test_what_is_queued_wakes_nobody_and_is_called_before_what_is_posted_next() -> None:
    """Whoever asks for something that depends on it posts."""
    with answering() as made:
        made.wait_answered()
        made.bell.queue(made.called.append, "queued")
        made.post("posted")
        made.wait_answered()
    assert made.called == ["queued", "posted"]
    with pytest.raises(RuntimeStopped):
        made.bell.queue(made.called.append, "too late")


def test_a_post_that_is_interrupted_at_any_point_leaves_the_bell_working() -> None:
    """The next post is answered, and what was posted is called at most once."""
    with answering() as made, no_longer_than(60):

        def check(where: str) -> None:
            made.wait_answered()
            assert len(made.called) <= 1, where
            made.called.clear()

        points = at_each_point(lambda: made.post("x"), interrupt, check)
    assert points > 1


def test_a_call_posted_before_the_interrupt_does_not_wait_for_the_next_post() -> None:
    """Interrupted after the call was queued and before the bell was rung, it is carried out all the same."""
    with answering() as made, no_longer_than(60):
        called = threading.Event()
        queued: list[str] = []

        def post() -> None:
            called.clear()
            made.bell.post(called.set)

        def check(where: str) -> None:
            if where.endswith("Doorbell.post") and queued:
                assert called.wait(5), where
            queued.append(where)

        assert at_each_point(post, interrupt, check) > 1


def test_a_signal_handler_may_post_in_the_middle_of_a_post() -> None:
    """At every point, the lock's inside included: both calls are carried out."""
    with answering() as made, no_longer_than(60):

        def check(where: str) -> None:
            made.wait_answered()
            assert sorted(map(str, made.called)) == ["inner", "outer"], where
            made.called.clear()

        at_each_point(lambda: made.post("outer"), lambda: made.post("inner"), check)


def test_what_a_call_raises_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The calls behind it are carried out."""

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    with answering() as made, caplog.at_level(logging.ERROR):
        made.bell.post(fail)
        made.post("next")
        made.wait_answered()
    assert made.called == ["next"]
    assert "a bug" in caplog.text


def test_more_rings_than_the_pipe_holds_block_nobody() -> None:
    """100,000 posts to a runtime that is busy: none waits for it."""
    bell = Doorbell()
    try:
        with no_longer_than(60):
            for _ in range(100_000):
                bell.post(print)
    finally:
        bell.close()


def test_who_posts_to_a_closed_bell_is_told_and_waiting_jobs_hear_of_it() -> None:
    """A call that comes too late fails; one that waits in the queue is refused."""

    class Waiting(Refusable):
        refused = 0

        def refuse(self) -> None:
            self.refused += 1

    bell = Doorbell()
    waiting = Waiting()
    bell.post(print, waiting)
    bell.close()
    assert waiting.refused == 1
    with pytest.raises(RuntimeStopped):
        bell.post(print, waiting)
    assert waiting.refused == 2
    bell.close()  # again does no harm


def test_a_closed_bell_writes_into_no_descriptor_that_is_somebody_elses() -> None:
    """Its number may belong to another file by then."""
    bell = Doorbell()
    number = bell._in
    bell.close()
    reader, writer = os.pipe()
    try:
        os.dup2(writer, number)
        with pytest.raises(RuntimeStopped):
            bell.post(print)
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        for descriptor in {reader, writer, number}:
            os.close(descriptor)


def test_interrupts_are_not_swallowed() -> None:
    """What the handler raises reaches whoever posts."""
    with answering() as made:
        from tests.support.interrupts import tracing

        with pytest.raises(Interrupted), tracing(1, interrupt):
            made.post("x")
