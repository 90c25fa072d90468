"""When a periodic job is due; all moments are arguments."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.fleet._plans import HandlerPlan
from kombu_actors.fleet._schedule import SKEW, Every, Schedule, is_ahead, job
from kombu_actors.fleet.errors import FleetMistake

BERLIN = ZoneInfo("Europe/Berlin")
SWEEP = HandlerPlan(
    name="shop.sweep", is_async=True, replies=False, decode=None, resources=(), call=lambda message, values: None
)


def ticks(schedule: Schedule, after: datetime, count: int) -> list[str]:
    """The next ticks, in Berlin's time."""
    found, moment = [], after.timestamp()
    for _ in range(count):
        moment = schedule.next_after(moment)
        found.append(datetime.fromtimestamp(moment, BERLIN).strftime("%d %H:%M %z"))
    return found


@given(st.floats(min_value=0.1, max_value=1e7), st.floats(min_value=0, max_value=4e9))
def test_intervals_are_at_multiples_that_all_hosts_agree_on(seconds: float, moment: float) -> None:
    """Always later than the moment, and never by more than the interval."""
    following = Every(seconds).next_after(moment)
    assert moment < following <= moment + seconds * 1.001 + 1e-6
    assert following / seconds == pytest.approx(round(following / seconds), abs=1e-3)


def test_a_cron_expression_is_in_utc_unless_a_zone_is_named() -> None:
    """Also strictly after the moment."""
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert ticks(job("0 12 * * *", SWEEP).schedule, noon, 2) == ["02 14:00 +0200", "03 14:00 +0200"]
    assert ticks(job("0 12 * * *", SWEEP, "Europe/Berlin").schedule, noon, 1) == ["02 12:00 +0200"]


def test_nothing_is_left_out_when_clocks_are_put_forward() -> None:
    """At two it is three: what was to run in between runs at three."""
    night = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
    daily, often = (job(text, SWEEP, "Europe/Berlin").schedule for text in ("30 2 * * *", "*/30 * * * *"))
    assert ticks(daily, night, 2) == ["29 03:00 +0200", "30 02:30 +0200"]
    late = datetime(2026, 3, 29, 1, 15, tzinfo=BERLIN)
    assert ticks(often, late, 3) == ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]


def test_nothing_is_repeated_when_clocks_are_put_back() -> None:
    """At three it is two again: what runs daily runs once, what runs all the time goes on."""
    night = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    daily, often = (job(text, SWEEP, "Europe/Berlin").schedule for text in ("30 2 * * *", "*/30 * * * *"))
    assert ticks(daily, night, 2) == ["25 02:30 +0200", "26 02:30 +0100"]
    late = datetime(2026, 10, 25, 2, 15, tzinfo=BERLIN)
    assert ticks(often, late, 4) == ["25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100", "25 03:00 +0100"]


def test_a_clock_that_was_set_back_does_not_keep_jobs_waiting() -> None:
    """What was settled in the future doesn't count; two hosts may differ by a minute."""
    assert not is_ahead(100, 200)
    assert not is_ahead(200 + SKEW, 200)
    assert is_ahead(3800, 200)


@pytest.mark.parametrize(
    ("schedule", "zone", "sentence"),
    [
        (0, "UTC", r"takes seconds from 0\.1 to 31622400"),
        (True, "UTC", "takes seconds from"),
        (math.nan, "UTC", "takes seconds from"),
        (None, "UTC", "or a cron expression, not None"),
        ("every day", "UTC", r"'every day' is no cron expression: .*; one is '\*/5 \* \* \* \*'"),
        ("61 * * * *", "UTC", "is no cron expression"),
        ("0 0 * * *", "Europe/Atlantis", "there is no time zone 'Europe/Atlantis'; one is 'Europe/Berlin'"),
        ("0 0 * * *", "../etc/passwd", "there is no time zone"),
    ],
)
def test_a_schedule_that_is_none_is_a_mistake(schedule: str | float, zone: str, sentence: str) -> None:
    """A sentence with the job's name, at import time."""
    with pytest.raises(FleetMistake, match=f"@fleet.every of shop.sweep.*{sentence}"):
        job(schedule, SWEEP, zone)
