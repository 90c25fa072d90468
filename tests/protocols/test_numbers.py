"""Channel numbers: the lowest free one, and one kept for declarations."""

from __future__ import annotations

import pytest

from kombu_actors.errors import ChannelLimitExceeded
from kombu_actors.protocols.numbers import ChannelNumbers


def test_what_is_given_back_is_taken_again_lowest_first() -> None:
    """Whatever order it comes back in."""
    numbers = ChannelNumbers("this connection", "close some")
    assert [numbers.take(9, kept=False) for _ in range(4)] == [1, 2, 3, 4]
    for number in (4, 1, 2):
        numbers.give_back(number)
    assert [numbers.take(9, kept=False) for _ in range(4)] == [1, 2, 4, 5]


def test_the_kept_number_is_out_of_the_others_reach() -> None:
    """It is the highest; taken and given back it leaves the others as they are."""
    numbers = ChannelNumbers("this connection", "close some")
    assert [numbers.take(3, kept=False), numbers.take(3, kept=False), numbers.take(3, kept=True)] == [1, 2, 3]
    with pytest.raises(ChannelLimitExceeded, match="all 3 channels of this connection are in use"):
        numbers.take(3, kept=False)
    with pytest.raises(ChannelLimitExceeded):
        numbers.take(3, kept=True)
    numbers.give_back(3)
    with pytest.raises(ChannelLimitExceeded):
        numbers.take(3, kept=False)
    assert numbers.take(3, kept=True) == 3
