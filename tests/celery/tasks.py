"""Scenarios of tasks: results, retries, times, canvas, acknowledgement."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .ground import PATIENCE, Ground, celery_module
from .table import got, scenario

canvas = celery_module("celery")
exceptions = celery_module("celery.exceptions")


@scenario()
def result(ground: Ground, name: str) -> None:
    """A task's value comes back, and its kombu is the one that was asked for."""
    assert got(ground.tasks.add.delay(2, 3)) == 5
    module = got(ground.tasks.seen.delay())["kombu"]
    assert module.startswith("kombu_actors") == ground.switched, module


@scenario()
def failure(ground: Ground, name: str) -> None:
    """A task's exception comes back as what it is, with its traceback."""
    failed = ground.tasks.fail.delay("so be it")
    with pytest.raises(ValueError, match="so be it"):
        got(failed)
    assert failed.state == "FAILURE"
    assert "ValueError" in failed.traceback


@scenario()
def many(ground: Ground, name: str) -> None:
    """Each of 100 results is its own task's."""
    sent = [ground.tasks.add.delay(number, 1) for number in range(100)]
    assert [got(one) for one in sent] == [number + 1 for number in range(100)]


@scenario()
def by_name(ground: Ground, name: str) -> None:
    """A task may be sent by its name."""
    assert got(ground.app.send_task("add", args=(1,), kwargs={"y": 2})) == 3


@scenario()
def big(ground: Ground, name: str) -> None:
    """A megabyte goes there and comes back."""
    text = "abcdefgh" * (1 << 17)
    assert got(ground.tasks.add.delay(text, "!")) == text + "!"


@scenario()
def compressed(ground: Ground, name: str) -> None:
    """Compressed messages are read."""
    assert got(ground.tasks.add.apply_async((["x"] * 10_000, ["y"]), compression="gzip"))[-1] == "y"


@scenario()
def pickled(ground: Ground, name: str) -> None:
    """Pickled arguments, where both sides accept them."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    sent = ground.tasks.add.apply_async((day, timedelta(days=1)), serializer="pickle")
    assert str(got(sent)).startswith("2026-01-02")


@scenario()
def headers(ground: Ground, name: str) -> None:
    """A header of one's own is seen by the task, and where it came by."""
    info = got(ground.tasks.seen.apply_async(headers={"own": "mine"}, queue="other"))
    assert (info["own"], info["routing_key"]) == ("mine", "other")


@scenario()
def routes(ground: Ground, name: str) -> None:
    """``task_routes`` is followed."""
    assert got(ground.tasks.routed.delay()) is None


@scenario()
def retries(ground: Ground, name: str) -> None:
    """``retry`` runs it again until it succeeds."""
    assert got(ground.tasks.retrying.delay(2)) == 2


@scenario()
def gives_up(ground: Ground, name: str) -> None:
    """The last retry's exception is the result."""
    with pytest.raises(KeyError):
        got(ground.tasks.retrying.delay(5, 0.01, 1))


@scenario(lengthy=True)
def retries_by_exception(ground: Ground, name: str) -> None:
    """``autoretry_for`` with a backoff."""
    assert got(ground.tasks.auto.delay()) == 2


@scenario()
def countdown(ground: Ground, name: str) -> None:
    """Not before its time."""
    sent_at = time.time()
    got(ground.tasks.note.apply_async((name,), countdown=0.7))
    assert ground.diary.read(name)[0].at >= sent_at + 0.65


@scenario()
def eta(ground: Ground, name: str) -> None:
    """Not before its date."""
    due = datetime.now(UTC) + timedelta(seconds=0.7)
    got(ground.tasks.note.apply_async((name,), eta=due))
    assert ground.diary.read(name)[0].at >= due.timestamp() - 0.05


@scenario()
def expires(ground: Ground, name: str) -> None:
    """An expired task doesn't run."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(exceptions.TaskRevokedError):
        got(ground.tasks.note.apply_async((name,), expires=past))
    assert not ground.diary.read(name)


@scenario()
def chain(ground: Ground, name: str) -> None:
    """Each gets what the one before returned."""
    add = ground.tasks.add
    assert got(canvas.chain(add.s(1, 1), add.s(10), add.s(100))()) == 112


@scenario()
def group(ground: Ground, name: str) -> None:
    """All of them, in order."""
    assert got(canvas.group(ground.tasks.add.s(number, number) for number in range(20))()) == [
        2 * number for number in range(20)
    ]


@scenario(results="redis")
def chord(ground: Ground, name: str) -> None:
    """The body gets all results of the header."""
    header = [ground.tasks.add.s(number, number) for number in range(20)]
    assert got(canvas.chord(header)(ground.tasks.total.s())) == 380


@scenario(results="redis")
def chord_error(ground: Ground, name: str) -> None:
    """A failed header fails the body, with its own error where that has come."""
    header = [ground.tasks.add.s(1, 1), ground.tasks.fail.s()]
    with pytest.raises((exceptions.ChordError, ValueError)):
        got(canvas.chord(header)(ground.tasks.total.s()))


@scenario(results="redis")
def chord_in_chain(ground: Ground, name: str) -> None:
    """A group within a chain is a chord."""
    add = ground.tasks.add
    steps = canvas.chain(add.s(1, 1), canvas.group(add.s(10), add.s(20)), ground.tasks.total.s(), add.s(1000))
    assert got(steps()) == 1034


@scenario()
def chunks(ground: Ground, name: str) -> None:
    """``chunks`` and ``starmap``."""
    pairs = list(zip(range(10), range(10), strict=True))
    assert got(ground.tasks.add.chunks(pairs, 5).group()()) == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]
    assert got(ground.tasks.add.starmap(pairs).delay()) == [2 * number for number in range(10)]


@scenario()
def links(ground: Ground, name: str) -> None:
    """``link`` is called after success, ``link_error`` after failure."""
    ground.tasks.add.apply_async((name, "-ok"), link=ground.tasks.note.s())
    ground.tasks.fail.apply_async(link_error=ground.tasks.note.si(f"{name}-failed"))
    ground.until(lambda: ground.diary.counts(name) == {f"{name}-ok": 1, f"{name}-failed": 1}, "both links")


@scenario(results="redis")
def replace(ground: Ground, name: str) -> None:
    """A task has a chain do it."""
    assert got(ground.tasks.replaced.delay(1)) == 12


@scenario()
def state(ground: Ground, name: str) -> None:
    """A state of one's own is seen while the task runs."""
    sent = ground.tasks.progress.delay(0.5)
    ground.until(lambda: sent.state == "HALFWAY", "the state", timeout=PATIENCE)
    assert got(sent) == "done"


@scenario()
def no_result(ground: Ground, name: str) -> None:
    """``ignore_result``, and ``Ignore``: done, and no result stored."""
    ignored = ground.tasks.ignored.delay()
    got(ground.tasks.note.apply_async((name,), ignore_result=True))
    ground.until(lambda: ground.diary.counts(name)[name], "the task without a result")
    assert ignored.state in ("PENDING", "STARTED")


@scenario(results="redis")
def forget(ground: Ground, name: str) -> None:
    """A result is found by its id, and forgotten."""
    sent = ground.tasks.add.delay(1, 1)
    assert got(sent) == 2
    again = ground.app.AsyncResult(sent.id)
    assert (again.state, again.result) == ("SUCCESS", 2)
    again.forget()
    assert ground.app.AsyncResult(sent.id).state == "PENDING"


@scenario()
def acks_late(ground: Ground, name: str) -> None:
    """Acknowledged when it is done: once."""
    for one in [ground.tasks.late.delay(f"{name}-{number}") for number in range(20)]:
        got(one)
    assert set(ground.diary.counts(name, "began").values()) == {1}


@scenario()
def rejected(ground: Ground, name: str) -> None:
    """``Reject`` drops it, with ``requeue`` it comes again."""
    ground.tasks.refuse.delay(f"{name}-dropped", False)
    assert got(ground.tasks.refuse.delay(f"{name}-again", True)) == f"{name}-again"
    assert ground.diary.counts(name, "began") == {f"{name}-dropped": 1, f"{name}-again": 2}


@scenario()
def published_inside(ground: Ground, name: str) -> None:
    """Tasks publish tasks: each is run."""
    for number in range(20):
        ground.tasks.calls.delay(f"{name}-{number}")
    ground.until(lambda: len(ground.diary.counts(name)) == 20, "the inner tasks")
    assert set(ground.diary.counts(name).values()) == {1}


@scenario()
def broadcast(ground: Ground, name: str) -> None:
    """A task to all workers: there is one."""
    ground.tasks.note.apply_async((name,), queue="everyone")
    ground.until(lambda: ground.diary.counts(name)[name], "the broadcast task")
    assert ground.diary.counts(name) == {name: 1}


@scenario()
def priorities(ground: Ground, name: str) -> None:
    """What waits is taken by its priority."""
    control = ground.app.control
    most = "high" if ground.broker == "rabbitmq" else "low"  # 9 is the highest of AMQP, and the lowest of kombu's Redis
    for number in range(12):
        ground.tasks.note.apply_async((f"{name}-low{number}", 0.02), queue="ranked", priority=0)
    for number in range(3):
        ground.tasks.note.apply_async((f"{name}-high{number}", 0.02), queue="ranked", priority=9)
    ground.quiet(0.1)  # stock kombu's publishes aren't confirmed
    control.add_consumer("ranked", reply=True, destination=None)
    ground.until(lambda: len(ground.diary.counts(name)) == 15, "all of them")
    control.cancel_consumer("ranked", reply=True)
    began: list[Any] = [entry.name for entry in ground.diary.read(name) if entry.stage == "began"]
    first = began[: 5 if most == "high" else 14]  # two that come one after the other may begin in another order
    assert sum(most in one for one in first) == (3 if most == "high" else 12), began
