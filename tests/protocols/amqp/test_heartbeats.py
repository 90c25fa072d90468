"""When to beat and when to give up, decided without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.protocols.amqp.heartbeats import Verdict, pulse


def test_a_beat_is_due_after_half_an_interval_of_sending_nothing() -> None:
    """Any bytes sent count as a beat."""
    assert pulse(104.9, interval=10, sent=100, received=104) == (Verdict.WAIT, 105)
    assert pulse(105, interval=10, sent=100, received=104) == (Verdict.BEAT, 110)


def test_two_silent_intervals_mean_death() -> None:
    """RabbitMQ's own rule; not earlier, not later."""
    assert pulse(119.9, interval=10, sent=119, received=100).verdict is Verdict.WAIT
    assert pulse(120, interval=10, sent=119, received=100).verdict is Verdict.DEAD


def test_our_own_stall_is_no_silence_of_the_peer() -> None:
    """For nine seconds nobody looked: bytes may be waiting unread."""
    assert pulse(109, interval=2, sent=108.5, received=100, stalled=8.5).verdict is Verdict.WAIT


@given(
    st.floats(0.1, 100),
    st.floats(0, 1000),
    st.floats(0, 1000),
    st.floats(0, 1000),
    st.floats(0, 50),
)
def test_the_next_look_is_never_too_late(
    interval: float, sent: float, received: float, now: float, stalled: float
) -> None:
    """Asked again at ``until``, no death and no beat is overlooked; and time always moves on."""
    verdict, until = pulse(now, interval=interval, sent=sent, received=received, stalled=stalled)
    if verdict is Verdict.DEAD:
        assert now >= received + stalled + 2 * interval
        return
    assert until > now
    assert until <= received + stalled + 2 * interval
    assert until <= max(sent, now) + interval / 2
