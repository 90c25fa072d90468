"""What is decided about a failed message, and what is written on it: pure, so in tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.fleet import Batch, FleetMistake, PayloadError, Reject, Retry, Snooze
from kombu_actors.fleet._headers import (
    REASON_MAX,
    STACK_MAX,
    cut,
    dead_headers,
    error_headers,
    failed_attempts,
    first_failed_at,
    retry_headers,
    stack_of,
    text_of,
)
from kombu_actors.fleet.policy import DeadLettered, RetryLater, SnoozeFor, decide

POLICY = Retry(delays=(1, 10), give_up_on=(LookupError,))


@pytest.mark.parametrize(
    ("failed", "error", "decision"),
    [
        (0, ValueError("x"), RetryLater(1, 1)),
        (1, ValueError("x"), RetryLater(10, 2)),
        (2, ValueError("x"), DeadLettered("failed 3 times, at last: ValueError: x", 3)),
        (7, ValueError("x"), DeadLettered("failed 8 times, at last: ValueError: x", 8)),
        (0, KeyError("x"), DeadLettered("not tried again: KeyError: 'x'", 1, "given_up")),
        (1, Reject("no"), DeadLettered("no", 2, "rejected")),
        (2, Snooze(5), SnoozeFor(5)),
        (0, PayloadError("expected str, got 3"), DeadLettered("undecodable: $: expected str, got 3", 1, "undecodable")),
        (0, ExceptionGroup("several", [ValueError("x")]), RetryLater(1, 1)),
    ],
)
def test_what_becomes_of_a_failed_message(failed: int, error: Exception, decision: object) -> None:
    """The whole table of outcomes."""
    assert decide(POLICY, failed, error) == decision


@given(st.lists(st.floats(min_value=0.001, max_value=86400), max_size=8), st.integers(0, 12))
def test_retries_end(delays: list[float], failed: int) -> None:
    """As many as there are delays, each once."""
    decision = decide(Retry(delays=tuple(delays)), failed, OSError())
    if failed < len(delays):
        assert decision == RetryLater(delays[failed], failed + 1)
    else:
        assert isinstance(decision, DeadLettered)
    assert math.isclose(Retry(delays=tuple(delays)).total, math.fsum(delays))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(delays=(0,)),
        lambda: Retry(delays=(-1,)),
        lambda: Retry(delays=(31 * 24 * 3600,)),
        lambda: Retry(delays=(math.nan,)),
        lambda: Retry(delays=(True,)),
        lambda: Retry(delays="1,2"),
        lambda: Retry(delays=5),
        lambda: Retry(give_up_on=(KeyboardInterrupt,)),
        lambda: Retry(give_up_on=("ValueError",)),
        lambda: Snooze(0),
        lambda: Snooze(math.inf),
        lambda: Batch(size=0),
        lambda: Batch(size=True),
        lambda: Batch(within=0),
    ],
)
def test_a_policy_that_cannot_be_meant_is_a_mistake(make: Any) -> None:
    """Each a sentence, where it stands."""
    with pytest.raises(FleetMistake, match=r"takes|is a number|is seconds"):
        make()


def test_a_policy_takes_a_list_and_a_lone_class() -> None:
    """What is meant is clear."""
    assert Retry(delays=[1, 2], give_up_on=KeyError) == Retry(delays=(1, 2), give_up_on=(KeyError,))


@pytest.mark.parametrize("value", [-1, True, "3", 2.0, None, 2**40, [1], {"a": 1}, b"1"])
def test_what_others_wrote_is_no_attempt_of_ours(value: object) -> None:
    """A header of our name with something else in it is as good as absent."""
    assert failed_attempts({"ka-attempt": value}) == 0


def test_numbers_of_ours_are_read() -> None:
    """Attempts, and when it began."""
    assert failed_attempts({"ka-attempt": 3}) == 3
    assert first_failed_at({"ka-first-at": 1.5}) == 1.5
    assert first_failed_at({"ka-first-at": "soon"}) is None


def nested(depth: int) -> None:
    """Raise from deep down, with long names on the way."""
    if depth == 0:
        raise ValueError("ä" * 20_000)
    nested(depth - 1)


def test_headers_are_bounded() -> None:
    """A long text, a deep stack, a long queue's name: together they fit any frame, and are whole characters."""
    with pytest.raises(ValueError, match="ä") as caught:
        nested(500)
    more = {"queue": "q" * 5000, "error": caught.value, "handler": "ü" * 5000}
    dead = dead_headers(attempts=3, first_at=1.0, dead_at=2.0, reason="r" * 5000, **more)  # type: ignore[arg-type]
    again = retry_headers(failed=3, first_at=1.0, **more)  # type: ignore[arg-type]
    for headers in (dead, again, error_headers(caught.value)):
        assert sum(len(str(value).encode()) for value in headers.values()) < 10_240
    stack = str(dead["ka-stack"])
    assert len(stack.encode()) <= STACK_MAX
    assert stack.startswith("... ")
    assert "nested" in stack_of(ValueError("x").with_traceback(caught.value.__traceback__))


@given(st.text(max_size=300), st.integers(8, 200))
def test_a_cut_text_is_whole_characters(text: str, most: int) -> None:
    """At most so many bytes, and readable; what fits stays as it is."""
    short = cut(text, most)
    data = text.encode(errors="replace")
    assert len(short.encode()) <= most
    assert short == data.decode() if len(data) <= most else data.startswith(short.removesuffix(" ...").encode())


def test_an_error_that_cannot_be_told_is_told_all_the_same() -> None:
    """Some raise when they are asked what they say."""

    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert "RuntimeError" in text_of(Shy())
    assert len(text_of(ValueError("x" * 5000))) == 5000
    assert len(str(error_headers(ValueError("x" * 5000))["ka-reason"])) == REASON_MAX
