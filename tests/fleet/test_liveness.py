"""When a silent consumer is deaf, and which step follows which; the innocent are left alone.  On made-up moments."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kombu_actors.fleet._liveness import LOOKS, Sight, Step, Watch, judge, look

AFTER = 30.0
PERIOD = AFTER / LOOKS


@attrs.define
class Play:
    """A consumer that is looked at once in a period."""

    now: float = 100.0
    sight: Sight = attrs.Factory(lambda: Sight((1, 1), 0, open=True))
    waiting: bool = True
    watch: Watch = attrs.field(init=False)
    steps: list[tuple[float, Step | None]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.watch = Watch.begin(self.sight, self.now)

    def step(self) -> Step | None:
        """The last step that was taken."""
        return self.watch.step

    def see(self, times: int = 1, after: float = PERIOD, **changes: Any) -> None:
        """Look so many times, each ``after`` seconds later; the first time at what has changed."""
        self.sight = attrs.evolve(self.sight, **changes)
        for _ in range(times):
            self.now += after
            before = self.watch
            self.watch = look(self.watch, self.sight, self.now)
            if self.watch.silent:
                self.watch = judge(self.watch, self.waiting, self.now, AFTER)
            if self.watch.step is not before.step:
                self.steps.append((self.now - 100.0, self.watch.step))


def test_the_ladder_is_climbed_step_by_step() -> None:
    """DEGRADED after ``deaf_after``, then after a third of it each: consumer, channel, session, process; no more."""
    play = Play()
    play.see(20)
    assert play.steps == [
        (30.0, Step.DEGRADED),
        (40.0, Step.CONSUMER),
        (50.0, Step.CHANNEL),
        (60.0, Step.SESSION),
        (70.0, Step.PROCESS),
    ]


@pytest.mark.parametrize("periods", range(3, 7))
def test_a_single_message_makes_it_well(periods: int) -> None:
    """Whatever step was taken; and to be deaf again takes all the time again."""
    play = Play()
    play.see(periods)
    assert play.step() is not None
    play.see(arrived=1)
    assert play.step() is None
    assert play.watch.heard_at == play.now
    play.see(2)
    assert play.step() is None
    play.see()
    assert play.step() is Step.DEGRADED


def test_an_empty_queue_makes_nobody_deaf() -> None:
    """For hours; and the message that is there when it's asked at last has its time to come."""
    play = Play(waiting=False)
    play.see(1000)
    assert play.steps == []
    play.waiting = True
    play.see(2)
    assert play.steps == []


def test_a_queue_that_others_drain_makes_nobody_deaf() -> None:
    """There is something in it at most looks; as long as it is empty at one in three."""
    play = Play()
    for _ in range(100):
        play.waiting = True
        play.see(2)
        play.waiting = False
        play.see()
    assert play.steps == []


def test_who_has_no_room_or_rests_is_not_deaf() -> None:
    """A slow handler holds all credit, it is paused, fails fast, or has no session: its time begins when that ends."""
    play = Play()
    play.see(100, open=False)
    assert play.steps == []
    play.see(3, open=True)
    assert play.steps == [(1030.0, Step.DEGRADED)]


def test_each_grant_gets_its_time() -> None:
    """A subscription that was lost and is in force again is not judged by the silence before; a step taken stays so."""
    play = Play()
    play.see(2)
    play.see(line=(1, 2))
    play.see(2)
    assert play.steps == []
    play.see(2)
    assert [step for _, step in play.steps] == [Step.DEGRADED, Step.CONSUMER]
    play.see(line=(1, 3))
    assert play.step() is Step.CONSUMER
    play.see()
    assert play.step() is Step.CHANNEL


def test_messages_of_a_new_grant_are_heard() -> None:
    """Also when they are as many as the line before had brought."""
    play = Play(sight=Sight((1, 1), 5, open=True))
    play.see(3)
    assert play.step() is Step.DEGRADED
    play.see(line=(2, 1), arrived=5)
    assert play.step() is None
    assert play.watch.heard


def test_one_long_pause_is_one_look() -> None:
    """A process that stood still for ten minutes has not listened for ten minutes."""
    play = Play()
    play.see(after=600.0)
    play.see()
    assert play.steps == []


def test_a_queue_that_others_have_emptied_ends_it() -> None:
    """Then there is nothing that it could be deaf to."""
    play = Play()
    play.see(4)
    play.waiting = False
    play.see()
    assert play.step() is None
    assert play.watch.heard_at == 100.0
