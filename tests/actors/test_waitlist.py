"""When what the broker refuses to restore is tried again, and how often that is said."""

from __future__ import annotations

import itertools
import logging
import math

import pytest

from kombu_actors.actors.waitlist import LASTING, RETRY_BACKOFF, Waiting, Waitlist, refused_again


def refused_until(seconds: float, *, u: float = 0.0, reason: str = "locked") -> list[Waiting]:
    """Every refusal from 0 s on, each when the one before said, until that many seconds have passed."""
    history: list[Waiting] = []
    now = 0.0
    while now <= seconds:
        history.append(refused_again(history[-1] if history else None, "queue 'q'", reason, now, u))
        now = history[-1].next_at
    return history


def test_delays_grow_from_a_tenth_of_a_second_to_three() -> None:
    """So that a lock that is over in a moment costs a moment, and recovery never more than 3 s."""
    history = refused_until(20)
    times = [0.0, *(waiting.next_at for waiting in history)]
    delays = [round(later - earlier, 2) for earlier, later in itertools.pairwise(times)]
    assert delays[:8] == [0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0]
    assert [waiting.attempts for waiting in history] == list(range(1, len(history) + 1))
    assert {waiting.since for waiting in history} == {0.0}


def test_a_draw_takes_at_most_a_quarter_off() -> None:
    """A thousand queues behind one lock are not asked for in step, and never later than said."""
    for attempt, waiting in enumerate(refused_until(20, u=0.999)):
        longest = RETRY_BACKOFF.delay(attempt, 0.0)
        since = refused_until(20, u=0.999)[attempt - 1].next_at if attempt else 0.0
        assert 0.75 * longest < waiting.next_at - since < longest


@pytest.mark.parametrize("seconds", [5, 25, 100])
def test_waiting_is_said_once_and_once_more_when_it_lasts(seconds: float) -> None:
    """However often it is tried: a warning at the first refusal, an error at the first one past ``LASTING``."""
    said = [waiting.loudness for waiting in refused_until(seconds) if waiting.loudness is not None]
    assert said == ([logging.WARNING] if seconds < LASTING else [logging.WARNING, logging.ERROR])


def test_another_reason_is_said() -> None:
    """What was locked and is missing now is another story."""
    first = refused_again(None, "queue 'q'", "locked", 0.0, 0.0)
    second = refused_again(first, "queue 'q'", "missing", 1.0, 0.0)
    third = refused_again(second, "queue 'q'", "missing", 2.0, 0.0)
    assert [second.loudness, third.loudness] == [logging.WARNING, None]
    assert third.since == 0.0


def test_each_has_its_own_delays() -> None:
    """One that has waited for long does not slow down one that has just begun."""
    waitlist: Waitlist[str] = Waitlist()
    for now in (0.0, 0.1, 0.35, 0.85):
        waitlist.refused("old", "old", "locked", now, 0.0)
    waitlist.refused("young", "young", "locked", 1.0, 0.0)
    assert waitlist.next_at() == pytest.approx(1.1)
    assert waitlist.first_due(1.05) is None
    assert waitlist.first_due(1.1) == "young"
    assert waitlist.first_due(9.0) == "young"
    assert waitlist.settled("young") is not None
    assert waitlist.first_due(9.0) == "old"
    assert waitlist.settled("young") is None
    assert len(waitlist) == 1


def test_a_new_session_starts_all_delays_afresh_and_says_nothing_twice() -> None:
    """What was locked by the lost connection is likely to be free soon; the log knows of it already."""
    waitlist: Waitlist[str] = Waitlist()
    for now in range(10):
        waitlist.refused("q", "queue 'q'", "locked", float(now), 0.0)
    waitlist.restart(10.0)
    assert waitlist.first_due(10.0) == "q"
    again = waitlist.refused("q", "queue 'q'", "locked", 10.0, 0.0)
    assert (again.since, again.next_at, again.loudness) == (0.0, 10.1, None)


def test_what_would_end_the_session_is_not_tried_again_by_itself() -> None:
    """An answer that closes the connection is said as an error, and stays on the list over sessions."""
    waitlist: Waitlist[str] = Waitlist()
    assert waitlist.barred("x", "exchange 'x'", "COMMAND_INVALID", 0.0).loudness == logging.ERROR
    waitlist.restart(1.0)
    assert waitlist.next_at() == math.inf
    assert waitlist.first_due(1e9) is None
    assert waitlist.is_barred("x")
    waitlist.settled("x")
    assert not waitlist.is_barred("x")
