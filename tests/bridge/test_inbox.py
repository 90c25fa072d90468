"""The inbox: what comes in is taken once, and nobody sleeps through it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import attrs
import pytest

from kombu_actors._bridge.feeds import Notice
from kombu_actors._bridge.inbox import BEHIND, MESSAGES, Inbox, Taken
from kombu_actors._values.model import Delivery
from tests.support.interrupts import Interrupted, at_each_point, interrupt, no_longer_than, points_of, tracing

NEWS = Notice(print)


@attrs.frozen
class Body:
    """Stands for bytes of a length; ``while_measured`` is called when that is asked for."""

    size: int
    while_measured: Callable[[], object] = lambda: None

    def __len__(self) -> int:
        self.while_measured()
        return self.size


def delivery(body: Body) -> Delivery:
    """A delivery, of which the inbox looks at the body's length alone."""
    return Delivery("", 1, False, "", "q", {}, cast("bytes", body))


class Reading:
    """A reader that is paused and resumed."""

    def __init__(self) -> None:
        self.paused = False
        self.seldom = 0

    def read_seldom(self) -> None:
        self.seldom += 1

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.seldom = 0


def make_inbox(limit: int = 1000) -> tuple[Inbox, Reading]:
    reading = Reading()
    inbox = Inbox(limit, reading.pause, reading.resume, reading.read_seldom)
    inbox.post = lambda look: look()
    return inbox, reading


def take(inbox: Inbox, timeout: float | None = 0) -> object:
    taken: Taken = []
    inbox.take(taken, timeout)
    return taken[0][1] if taken else None


def test_reading_pauses_above_the_limit_and_goes_on_when_it_was_taken() -> None:
    """Eight messages of 200 bytes, of 1,000 allowed; reading goes on when few are left."""
    inbox, reading = make_inbox()
    inbox.put_deliveries(NEWS, [delivery(Body(1))] * 20 + [delivery(Body(200))] * 8)
    assert reading.paused
    for _ in range(28):
        take(inbox)
    assert not reading.paused


def test_reading_pauses_above_a_number_of_messages_however_small() -> None:
    """Empty ones weigh nothing but themselves; in the next session, too, while they have not been taken."""
    inbox, reading = make_inbox()
    states: list[bool] = []
    for number in (MESSAGES, 1, 1):
        inbox.put_deliveries(NEWS, [delivery(Body(0))] * number)
        states.append(reading.paused)
        reading.resume()  # another session is read from
    assert states == [False, True, True]
    for _ in range(MESSAGES + 2):
        take(inbox)
    assert not reading.paused


def test_who_is_behind_is_read_for_seldom_until_few_are_left() -> None:
    """Said once, not for each message."""
    inbox, reading = make_inbox()
    states: list[int] = []
    for number in (BEHIND, 1, 1):
        inbox.put_deliveries(NEWS, [delivery(Body(0))] * number)
        states.append(reading.seldom)
    assert states == [0, 1, 1]
    for _ in range(BEHIND):
        take(inbox)
    assert not reading.seldom
    assert not reading.paused


def test_reading_goes_on_when_the_backlog_is_drained_while_it_is_measured() -> None:
    """Taken between the measuring and the pausing: the taker had no reason to resume, the runtime looks again."""
    inbox, reading = make_inbox()
    drained: list[object] = []

    def drain() -> None:
        # The batch is measured once before it is in the inbox and once more when it is.
        if len(inbox.waiting) == 8 and not drained:
            drained.extend(take(inbox) for _ in range(8))

    inbox.put_deliveries(NEWS, [delivery(Body(200, drain)) for _ in range(8)])
    assert len(drained) == 8
    assert not reading.paused


def test_a_take_that_is_interrupted_at_any_point_loses_nothing() -> None:
    """The item is in the inbox, or with whoever took it; also when it comes while that one sleeps."""
    inbox, _ = make_inbox()
    taken: Taken = []

    def take_it() -> None:
        inbox.put(NEWS, ["item"])
        inbox.take(taken, 0)

    def check(where: str) -> None:
        held = [item for _, item in taken] + [item for _, item in inbox.waiting]
        assert held in (["item"], []), where  # not there when the handler came before it was put
        assert held or "put" in where, where
        del taken[:]
        inbox.waiting.clear()

    points_of(take_it)  # Python 3.13 traces the instructions of a function from its second traced call on
    check("put")
    assert at_each_point(take_it, interrupt, check) > 1


def test_a_waiting_take_that_is_interrupted_at_any_point_loses_nothing() -> None:
    """The inbox is empty at first: the item comes while the thread goes to sleep."""
    inbox, _ = make_inbox()
    taken: Taken = []

    def take_it() -> None:
        over = threading.Event()

        def feed() -> None:
            while not (inbox._sleepers or over.is_set()):
                over.wait(0.0001)
            inbox.put(NEWS, ["item"])

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            inbox.take(taken, 5)
        finally:
            over.set()
            feeder.join()

    def check(where: str) -> None:
        held = [item for _, item in taken] + [item for _, item in inbox.waiting]
        assert held == ["item"], where
        del taken[:]
        inbox.waiting.clear()

    with no_longer_than(60):
        assert at_each_point(take_it, interrupt, check) > 10
    assert not inbox._sleepers


def test_who_was_interrupted_puts_the_item_back_as_the_oldest() -> None:
    """Order is kept, and others are woken for it."""
    inbox, _ = make_inbox()
    inbox.put(NEWS, ["first", "second"])
    taken: Taken = []
    inbox.take(taken, 0)
    inbox.put_back(taken)
    assert [take(inbox), take(inbox)] == ["first", "second"]


def test_a_thread_woken_by_one_that_was_interrupted_meanwhile_is_woken() -> None:
    """Ringing others may be interrupted at any point: each of them is woken by then, or by the next change."""
    inbox, _ = make_inbox()

    def handled() -> None:
        inbox.handled()

    waiting: list[threading.Thread] = []

    def sleeper() -> None:
        inbox.take([], 20)

    def start() -> None:
        thread = threading.Thread(target=sleeper, daemon=True)
        thread.start()
        waiting.append(thread)
        while not inbox._sleepers:
            pass

    wanted = 2  # the first point is the entry into ``handled``: nothing has happened then
    with no_longer_than(60):
        while True:
            start()
            with tracing(wanted, interrupt) as tracer:
                try:
                    inbox.handled()
                except Interrupted:
                    assert tracer.where
            thread = waiting.pop()
            thread.join(5)
            assert not thread.is_alive(), tracer.where
            if not tracer.where:
                break
            wanted += 1
    assert wanted > 3


def test_failure_is_raised_once_and_closing_always() -> None:
    """After what came before it has been taken."""
    inbox, _ = make_inbox()
    inbox.put(NEWS, ["item"])
    inbox.fail(ZeroDivisionError("gave up"))
    inbox.close(EOFError("released"))
    assert take(inbox) == "item"
    with pytest.raises(ZeroDivisionError):
        take(inbox)
    for _ in range(2):
        with pytest.raises(EOFError):
            take(inbox)


def test_many_takers_get_each_item_once() -> None:
    """Four threads take 20,000 items that come in batches."""
    inbox, _ = make_inbox(limit=10**9)
    got: list[list[object]] = [[] for _ in range(4)]

    def taker(mine: list[object]) -> None:
        while (item := take(inbox, 20)) != "end":
            mine.append(item)

    threads = [threading.Thread(target=taker, args=(mine,)) for mine in got]
    for thread in threads:
        thread.start()
    for start in range(0, 20_000, 50):
        inbox.put(NEWS, range(start, start + 50))
    inbox.put(NEWS, ["end"] * 4)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(item for mine in got for item in mine) == list(range(20_000))  # type: ignore[type-var]
