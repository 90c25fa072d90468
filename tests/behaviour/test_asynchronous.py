"""kombu's event loop: timers, bounds, files, and calls made soon."""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from .libraries import Library


@pytest.fixture(params=["kombu", "kombu_actors"])
def lib(request: pytest.FixtureRequest) -> Library:
    """The library under test; nothing here opens a socket that would have to be collected."""
    return Library(request.param)


@pytest.fixture
def hub(lib: Library) -> Iterator[Any]:
    """A loop, closed after the test."""
    hub = lib.module("asynchronous").Hub()
    yield hub
    hub.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: where to read, where to write."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_moments_are_on_the_monotonic_clock(lib: Library) -> None:
    """Whichever way they are told; one without a timezone is UTC's."""
    to_timestamp = lib.module("asynchronous.timer").to_timestamp
    now, utc = time.monotonic(), datetime.datetime.now(datetime.UTC)
    assert to_timestamp(utc + datetime.timedelta(seconds=5)) == pytest.approx(now + 5, abs=0.5)
    assert to_timestamp(utc.replace(tzinfo=None)) == pytest.approx(now, abs=0.5)
    assert (to_timestamp(3), to_timestamp(None)) == (3, None)


def test_a_timer_says_what_is_due(lib: Library) -> None:
    """What to wait for, then what to call; what was cancelled is not called."""
    timer = lib.module("asynchronous.timer").Timer()
    called: list[Any] = []
    due = iter(timer)
    assert next(due) == (None, None)
    later = timer.call_after(60, called.append, ("later",))
    now = timer.call_at(time.monotonic(), called.append, ("now",))
    assert (len(timer), [each.entry for each in timer.queue]) == (2, [now, later])
    wait, entry = next(due)
    assert (wait, entry) == (None, now)
    timer.apply_entry(entry)
    wait, entry = next(due)
    assert (wait, entry, called) == (timer.max_interval, None, ["now"])
    timer.cancel(later)
    assert later.cancelled
    timer.clear()
    assert len(timer) == 0


def test_a_repeated_call_is_made_until_it_is_cancelled(lib: Library) -> None:
    """Also when it fails; what it raises goes to ``on_error``."""
    failures: list[Any] = []
    timer = lib.module("asynchronous.timer").Timer(on_error=failures.append)
    called: list[int] = []

    def fail() -> None:
        called.append(1)
        raise ValueError("broken")

    entry = timer.call_repeatedly(0.001, fail)
    for wait, due in timer:
        if due is not None:
            timer.apply_entry(due)
        elif wait is None or len(called) == 3:
            break
        else:
            time.sleep(wait)
        if len(called) == 3:
            entry.cancel()
    assert (len(called), len(failures)) == (3, 3)


def test_a_semaphore_calls_who_finds_no_room_when_there_is(lib: Library) -> None:
    """In order; released too often it has no more room than it had."""
    semaphore = lib.module("asynchronous.semaphore").LaxBoundedSemaphore(2)
    let_in: list[int] = []
    assert [semaphore.acquire(let_in.append, number) for number in range(4)] == [True, True, False, False]
    assert (let_in, semaphore.value) == ([0, 1], 0)
    for _ in range(6):
        semaphore.release()
    assert (let_in, semaphore.value) == ([0, 1, 2, 3], 2)
    semaphore.grow(2)
    semaphore.shrink(3)
    assert (semaphore.value, semaphore.initial_value) == (1, 1)
    semaphore.acquire(let_in.append, 4)
    semaphore.clear()
    assert semaphore.value == 1
    with lib.module("asynchronous.semaphore").DummyLock():
        assert True


def test_the_present_loop_can_be_set(lib: Library, hub: Any) -> None:
    """And asked for."""
    asynchronous = lib.module("asynchronous")
    before = asynchronous.get_event_loop()
    try:
        assert asynchronous.set_event_loop(hub) is hub
        assert asynchronous.get_event_loop() is hub
    finally:
        asynchronous.set_event_loop(before)


def test_files_are_watched(hub: Any, pipe: tuple[int, int]) -> None:
    """Readers and writers are called with their arguments; one end may be both, and either be taken away."""
    reading, writing = pipe
    called: list[Any] = []
    hub.add_reader(reading, lambda name: called.append((name, os.read(reading, 10))), "r")
    hub.add_writer(writing, lambda name: called.append(name), "w")
    hub.run_once()
    hub.remove_writer(writing)
    hub.remove_writer(writing)
    hub.remove_writer(reading)
    os.write(writing, b"x")
    hub.run_once()
    assert called == ["w", ("r", b"x")]
    assert (list(hub.readers), list(hub.writers)) == ([reading], [])
    hub.remove(reading)
    assert not hub.readers


def test_generators_are_stepped(hub: Any, pipe: tuple[int, int]) -> None:
    """Each time there is something to read."""
    reading, writing = pipe
    read: list[bytes] = []

    def reader() -> Iterator[None]:
        while True:
            read.append(os.read(reading, 1))
            yield

    hub.add_reader(reading, reader())
    os.write(writing, b"ab")
    hub.run_once()
    hub.run_once()
    assert read == [b"a", b"b"]


def test_writers_can_be_told_together(hub: Any, pipe: tuple[int, int]) -> None:
    """Those that were added so."""
    _, writing = pipe
    told: list[Any] = []
    hub.consolidate_callback = told.append
    hub.add(writing, None, hub.WRITE | hub.ERR, consolidate=True)
    hub.run_once()
    assert told == [[writing]]
    hub.remove(writing)
    assert (hub.consolidate, hub.writers) == (set(), {})


def test_a_closed_pipe_is_an_event_for_its_reader(hub: Any) -> None:
    """Who reads finds the end."""
    reading, writing = os.pipe()
    read: list[bytes] = []
    hub.add_reader(reading, lambda: read.append(os.read(reading, 1)))
    os.close(writing)
    hub.run_once()
    assert read == [b""]
    hub.remove(reading)
    os.close(reading)


def test_calls_are_made_at_the_next_turn(hub: Any) -> None:
    """Soon, later, repeatedly, at each turn."""
    called: list[Any] = []
    hub.on_tick.add(lambda: called.append("tick"))
    hub.call_soon(called.append, "soon")
    hub.call_later(0, called.append, "later")
    hub.call_at(time.monotonic(), called.append, "at")
    hub.run_once()
    assert called == ["soon", "later", "at", "tick"]
    repeated = hub.call_repeatedly(0.01, called.append, "again")
    while called.count("again") < 2:
        hub.run_once()
    repeated.cancel()


def test_a_promise_is_called_once_however_often_it_waits(hub: Any) -> None:
    """Celery asks for one flush of its events with each of them."""
    called: list[Any] = []
    promise = import_module("vine").promise(called.append, ("flush",))
    assert hub.call_soon(promise) is hub.call_soon(promise) is promise
    hub.run_once()
    assert called == ["flush"]


def test_what_waits_behind_a_call_that_fails_is_called() -> None:
    """At the next turn; kombu's loop forgets it."""
    hub = import_module("kombu_actors.asynchronous").Hub()
    called: list[Any] = []
    hub.call_soon(lambda: 1 / 0)
    hub.call_soon(called.append, "behind")
    with pytest.raises(ZeroDivisionError):
        hub.run_once()
    hub.run_once()
    assert called == ["behind"]
    hub.close()


def test_other_threads_end_a_wait(hub: Any, pipe: tuple[int, int]) -> None:
    """By a call that is to be made soon."""
    hub.add_reader(pipe[0], print, "nothing is written")
    thread = threading.Timer(0.05, hub.stop)
    thread.start()
    began = time.monotonic()
    hub.run_forever()
    assert time.monotonic() - began < 0.9
    thread.join()


def test_errors_of_callbacks_end_the_loop_those_of_timers_do_not(hub: Any, lib: Library) -> None:
    """Unless they are among ``propagate_errors``."""

    def fail() -> None:
        raise ValueError("broken")

    hub.call_soon(fail)
    with pytest.raises(ValueError, match="broken"):
        hub.run_once()
    hub.call_later(0, fail)
    hub.run_once()
    hub.propagate_errors = (ValueError,)
    hub.call_later(0, fail)
    for _ in range(2):  # kombu's loop has ended by the error before, and begins anew
        try:
            hub.run_once()
        except ValueError:
            return
    pytest.fail("it was not raised")


def test_a_loop_can_be_stopped_reset_and_closed(hub: Any, pipe: tuple[int, int]) -> None:
    """Closing tells who wants to hear of it, and makes the calls that wait."""
    told: list[Any] = []
    hub.call_soon(hub.stop)
    hub.run_forever()
    hub.add_reader(pipe[0], told.append)
    hub.reset()
    assert hub.readers == {}
    hub.on_close.add(told.append)
    hub.call_soon(told.append, "at last")
    hub.close()
    assert told == [hub, "at last"]


def test_timers_are_fired_a_few_at_a_time(hub: Any) -> None:
    """Which leaves time for files."""
    called: list[int] = []
    for number in range(3):
        hub.call_at(time.monotonic() - 10 + number, called.append, number)
    hub.fire_timers(max_timers=2)
    assert called == [0, 1]
    assert hub.fire_timers() == 1
    assert called == [0, 1, 2]


def test_what_is_watched_is_shown(hub: Any, pipe: tuple[int, int]) -> None:
    """By file and callback."""
    hub.add_reader(pipe[0], print)
    assert f"({pipe[0]})print" in hub.repr_active()
    assert f"({pipe[0]})->R" in hub.repr_events([(pipe[0], hub.READ)]).replace("print()", "")
