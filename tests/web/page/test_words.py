"""Figures as people read them."""

from __future__ import annotations

import math

import pytest

from kombu_actors.web.page.sparkline import line, sparkline
from kombu_actors.web.page.words import duration, number, rate, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.0, "0 ms"), (0.0004, "< 1 ms"), (0.0123, "12 ms"), (0.9996, "1 s"), (1.0, "1 s"), (2.54, "2.5 s")),
        *((9.96, "10 s"), (59.4, "59 s"), (60.0, "1 min"), (61.0, "1 min 1 s"), (3599.6, "1 h"), (7260.0, "2 h 1 min")),
        *((86400.0, "1 d"), (90000.0, "1 d 1 h")),
    ],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    """Two figures, and never 60 seconds of a minute."""
    assert duration(seconds) == words


def test_counts_rates_and_sizes() -> None:
    """Short, and steady where a digit says nothing."""
    assert number(1234567) == "1\u202f234\u202f567"
    assert [rate(value) for value in (0, 0.01, 0.25, 9.96, 1234.5)] == ["\u2014", "< 0.1", "0.2", "10", "1\u202f234"]
    assert [size(value) for value in (900, 1_200_000, 12_000_000_000)] == ["1 kB", "1 MB", "12.0 GB"]


def test_a_line_has_gaps_where_nothing_is_known() -> None:
    """And one point by itself is seen, too."""
    nan = math.nan
    assert line([nan, 1.0, 2.0, nan, 1.0], 8, 12) == ("M2 6L4 1M8 6h1", 2.0)
    assert line([nan, nan], 8, 12) == ("", 0.0)
    assert sparkline([nan] * 360, "nothing") is None
