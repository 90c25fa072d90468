"""The shipped kernel, explored exhaustively: every state, every interleaving."""

from __future__ import annotations

from itertools import product

import pytest

from kombu_actors.supervisors import AutoShutdown, Backoff, ChildState, OnLimit, Restart, RestartLimit, Strategy
from kombu_actors.supervisors._kernel import Kernel, initial, step
from kombu_actors.supervisors._policy import FINAL, HELD
from kombu_actors.supervisors._records import (
    Arm,
    Begin,
    Child,
    Effect,
    Event,
    Exit,
    Exited,
    Held,
    LimitHit,
    Ready,
    StartChild,
    State,
    TimerFired,
)

from .exploration import Count, Violation, everyday, everything, explore, scrupulous
from .families import rules, siblings, two_static_and_a_dynamic_child
from .nesting import explore_family


def report(capsys: pytest.CaptureFixture[str], what: str, count: Count) -> None:
    with capsys.disabled():
        print(f"\n{what}: {count}")


def test_no_interleaving_of_three_children_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """All strategies x restart types x budgets 0, 1, 3; every order of readiness, failures, timers, shutdown."""
    total = Count()
    for strategy, budget, restarts in product(Strategy, (0, 1, 3), product(Restart, repeat=3)):
        total = total.plus(explore(initial(rules(strategy, budget), siblings(restarts)), step))
    report(capsys, "three children", total)
    assert total.configurations == 243


def test_cool_down_and_auto_shutdown_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Three children with significant ones and both kinds of auto shutdown, over a budget that cools down."""
    total = Count()
    for strategy, auto in product(Strategy, AutoShutdown):
        kinds = (Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY)
        state = initial(rules(strategy, 1, OnLimit.COOL_DOWN, auto), siblings(kinds, "b", "c"))
        total = total.plus(explore(state, step))
    report(capsys, "cool down, auto shutdown", total)


def test_a_budget_of_its_own_breaks_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """The elder of two lives on its own budget, whose end stops it alone, cools it down or escalates."""
    total = Count()
    for strategy, on_limit, significant in product(Strategy, OnLimit, ((), ("a",))):
        own, other = siblings((Restart.TRANSIENT, Restart.PERMANENT), *significant)
        own = own.but(limit=RestartLimit(max_restarts=1, on_limit=on_limit), backoff=Backoff(first=3.0))
        state = initial(rules(strategy, 1, on_limit, AutoShutdown.ANY_SIGNIFICANT), (own, other))
        total = total.plus(explore(state, scrupulous, everyday))
    report(capsys, "a budget of its own", total)


def test_requests_by_hand_and_stuck_children_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Two children stopped, restarted, removed, stuck or failing incurably at any moment; stale events do nothing."""
    total = Count()
    for strategy, restarts in product(Strategy, product((Restart.PERMANENT,), (Restart.PERMANENT, Restart.TRANSIENT))):
        state = initial(rules(strategy, 1, OnLimit.COOL_DOWN), siblings(restarts))
        total = total.plus(explore(state, step, everything(), check_stale=True))
    report(capsys, "two children, requests by hand", total)


def test_a_child_that_is_stopped_and_started_again_breaks_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """The elder of two, whatever its end was: it is back at its place, or gone as before when its start fails."""
    total = Count()
    for strategy in Strategy:
        state = initial(rules(strategy, 0), siblings((Restart.TEMPORARY, Restart.PERMANENT)))
        total = total.plus(explore(state, step, everything(again="a")))
    report(capsys, "one of two children started again", total)


def test_dynamic_children_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """One static and one added child under every event there is; and two static ones with an added one."""
    total = Count()
    for strategy, kind in product(Strategy, (Restart.PERMANENT, Restart.TEMPORARY)):
        added = Child("d", kind, static=False, trial=True)
        state = initial(rules(strategy, 1, OnLimit.COOL_DOWN), siblings((Restart.PERMANENT,)))
        total = total.plus(explore(state, scrupulous, everything(added), check_stale=True))
    report(capsys, "a static and a dynamic child", total)


def test_two_static_and_a_dynamic_child_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Every event there is, under the strategy in which it matters who comes first.  The others take a minute, and are
    ``python -m soak.kernel``."""
    report(capsys, "two static children and a dynamic one", two_static_and_a_dynamic_child(Strategy.REST_FOR_ONE))


def test_children_of_a_callable_break_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """Three recalled children: independent under ONE_FOR_ONE, in order otherwise."""
    total = Count()
    for strategy, restarts in product(Strategy, product((Restart.PERMANENT, Restart.TRANSIENT), repeat=3)):
        children = tuple(child.but(static=False) for child in siblings(restarts))
        total = total.plus(explore(initial(rules(strategy, 1), children), step))
    report(capsys, "three recalled children", total)


def test_a_nested_supervisor_breaks_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """[a, n] with n = [x, y]: both kernels, put together as the driver does it, x and y removed at any moment."""
    total = Count()
    for outer, inner in product(Strategy, Strategy):
        above = tuple(Child(id, Restart.PERMANENT) for id in "an")
        below = (Child("x", Restart.PERMANENT), Child("y", Restart.TRANSIENT, significant=True))
        auto = AutoShutdown.ANY_SIGNIFICANT
        count = explore_family(
            initial(rules(outer, 1), above), initial(rules(inner, 1, auto_shutdown=auto), below), step
        )
        total = total.plus(count)
    report(capsys, "nested", total)


# -- three known bugs, seeded ---------------------------------------------------------------------


class Resurrecting(Kernel):
    """OTP's group restart starts every specification again, finished ones too."""

    def members(self, root: str) -> list[Child]:
        if self.rules.strategy is Strategy.ONE_FOR_ONE:
            return super().members(root)
        place = self.children.place(root)
        assert place is not None
        above = place if self.rules.strategy is Strategy.REST_FOR_ONE else -1
        return [self.children[other] for other in self.children.places(above=above) if other != place]

    def join_group(self, child: Child, delay: float, cooling: bool) -> tuple[float, bool]:
        if child.state in FINAL:
            child = child.but(state=ChildState.NEW)
        return super().join_group(child, delay, cooling)


class Overlapping(Kernel):
    """Group restarts that know nothing of each other: a later root keeps its own timer, and obeys it."""

    own_timer = ""

    def join_group(self, child: Child, delay: float, cooling: bool) -> tuple[float, bool]:
        if child.state in HELD:
            return delay, cooling
        return super().join_group(child, delay, cooling)

    def timer_fired(self, event: TimerFired) -> None:
        super().timer_fired(event)
        self.own_timer = event.id

    def start_in_order(self) -> None:
        child = self.children.get(self.own_timer)
        if child is not None and child.state is ChildState.NEW:
            self.start(child)
        super().start_in_order()


def losing_in_delay(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """The forks of OTP's supervisor: a delayed child is "not running", so its wake-up is ignored."""
    return (state, ()) if isinstance(event, TimerFired) else step(state, event)


def shortest_trace(mutant: object, children: int, strategy: Strategy, restart: Restart) -> Violation:
    state = initial(rules(strategy, 3), siblings((restart,) * children))

    def act(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
        if isinstance(mutant, type) and issubclass(mutant, Kernel):
            kernel = mutant(state)
            effects = kernel.feed(event)
            return kernel.state(), effects
        return losing_in_delay(state, event)

    with pytest.raises(Violation) as caught:
        explore(state, act, everyday)
    return caught.value


def test_exploration_finds_a_child_lost_in_its_delay() -> None:
    """rabbitmq-common#201, klarna/supervisor3#13 and #14."""
    found = shortest_trace(losing_in_delay, 1, Strategy.ONE_FOR_ONE, Restart.PERMANENT)
    assert found.trace == (Begin(), Exited("a", 1, Exit.FAILED, 0.0, 0.0), TimerFired("a", 1))
    assert "a is lost in its delay" in found.rule


def test_exploration_finds_a_completed_child_resurrected() -> None:
    """OTP's one_for_all and rest_for_one run finished transient work again."""
    found = shortest_trace(Resurrecting, 2, Strategy.ONE_FOR_ALL, Restart.TRANSIENT)
    assert len(found.trace) == 5
    assert "though it is gone for good" in found.rule


def test_exploration_finds_overlapping_group_restarts() -> None:
    """EEP 28's review: an earlier child fails while later ones are in their delay."""
    found = shortest_trace(Overlapping, 2, Strategy.REST_FOR_ONE, Restart.PERMANENT)
    assert len(found.trace) == 5
    assert "does not serve" in found.rule


def test_the_unchanged_kernel_passes_where_the_mutants_fail() -> None:
    """The three explorations above fail for the seeded bug, not for the exploration."""
    for children, strategy, restart in (
        (1, Strategy.ONE_FOR_ONE, Restart.PERMANENT),
        (2, Strategy.ONE_FOR_ALL, Restart.TRANSIENT),
        (2, Strategy.REST_FOR_ONE, Restart.PERMANENT),
    ):
        explore(initial(rules(strategy, 3), siblings((restart,) * children)), step)


# -- arithmetic the exploration abstracts from -------------------------------------------------------


def run(state: State, *events: Event) -> tuple[State, list[Effect]]:
    seen: list[Effect] = []
    for event in events:
        state, effects = step(state, event)
        seen.extend(effects)
    return state, seen


def failing(id: str, epoch: int, now: float, u: float = 0.0) -> Exited:
    return Exited(id, epoch, Exit.FAILED, now, u)


def test_delays_grow_with_the_streak_and_jitter_is_taken_off() -> None:
    """first, base, base * factor, ... times (1 - jitter * u); maximum means maximum."""
    backoff = Backoff(first=0.0, base=1.0, factor=2.0, maximum=5.0, jitter=0.5)
    assert [backoff.delay(streak, 0.0) for streak in range(6)] == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay(3, 0.5) == 3.0
    assert backoff.delay(10_000, 0.0) == 5.0


def test_backoff_starts_afresh_after_a_stable_ready_only() -> None:
    """The streak is reset by time spent READY, not by time since the start."""
    supervisor = rules(Strategy.ONE_FOR_ONE, 10)
    supervisor = supervisor.but(backoff=Backoff(first=1.0, base=2.0, jitter=0.0, reset_after=30.0))
    state = initial(supervisor, (Child("a"),))
    state, seen = run(state, Begin(), failing("a", 1, 100.0), TimerFired("a", 1), failing("a", 2, 200.0))
    assert [effect.delay for effect in seen if isinstance(effect, Arm)] == [1.0, 2.0]
    state, seen = run(state, TimerFired("a", 2), Ready("a", 3, 210.0), failing("a", 3, 239.0))
    assert [effect.delay for effect in seen if isinstance(effect, Arm)] == [4.0]
    state, seen = run(state, TimerFired("a", 3), Ready("a", 4, 240.0), failing("a", 4, 270.0))
    assert [effect.delay for effect in seen if isinstance(effect, Arm)] == [1.0]


FLAPPING = Backoff(first=0.0, base=0.25, maximum=3.0, jitter=0.5, reset_after=5.0, earned=0.1, earned_after=0.5)


@pytest.mark.parametrize(
    ("streak", "served", "delay", "next_streak"),
    [
        (0, None, 0.0, 1),  # the first retry is free
        (1, None, 0.25, 2),
        (4, None, 2.0, 5),
        (9, None, 3.0, 10),
        (1, 0.49, 0.25, 2),  # it accepted, and dropped
        (9, 0.0, 3.0, 10),
        (0, 0.5, 0.0, 1),  # it served for a while
        (1, 0.5, 0.1, 1),
        (1, 4.9, 0.1, 1),
        (9, 1.0, 0.1, 9),  # a good while, in a bad time: the next failure at once is judged as before
        (9, 5.0, 0.0, 1),  # long enough to be forgiven everything
    ],
)
def test_who_has_served_for_a_while_is_tried_again_soon(
    streak: int, served: float | None, delay: float, next_streak: int
) -> None:
    """A flapping child is taken up again at the earned pace, one that fails as soon as it is READY is not."""
    assert FLAPPING.after_failure(streak, served, 0.0) == (delay, next_streak)
    assert FLAPPING.after_failure(streak, served, 0.5) == (delay * 0.75, next_streak)


def test_a_child_that_flaps_is_restarted_at_the_earned_pace_for_ever() -> None:
    """READY for a second each time: its delays never grow; READY for no time at all: they do."""
    supervisor = rules(Strategy.ONE_FOR_ONE, 10).but(limit=RestartLimit(max_restarts=None), backoff=FLAPPING)
    for served, expected in ((1.0, [0.0, *[0.1] * 9]), (0.01, [0.0, 0.25, 0.5, 1.0, 2.0, *[3.0] * 5])):
        state, _ = run(initial(supervisor, (Child("a"),)), Begin())
        delays: list[float] = []
        for epoch in range(1, 11):
            state, seen = run(state, Ready("a", epoch, epoch * 10.0), failing("a", epoch, epoch * 10.0 + served))
            delays += [effect.delay for effect in seen if isinstance(effect, Arm)]
            state, _ = run(state, TimerFired("a", epoch))
        assert delays == expected


def test_the_budget_counts_a_sliding_window() -> None:
    """Restarts older than ``within`` are forgiven; the window is half open."""
    supervisor = rules(Strategy.ONE_FOR_ONE, 2)
    state = initial(supervisor, (Child("a"),))
    state, seen = run(
        state,
        Begin(),
        failing("a", 1, 0.0),
        TimerFired("a", 1),
        failing("a", 2, 50.0),
        TimerFired("a", 2),
        failing("a", 3, 60.0),
    )
    assert not any(isinstance(effect, LimitHit) for effect in seen)
    state, seen = run(state, TimerFired("a", 3), failing("a", 4, 61.0))
    assert any(isinstance(effect, LimitHit) for effect in seen)


def test_one_failure_of_a_group_costs_one_restart() -> None:
    """However many siblings are restarted with it."""
    state = initial(rules(Strategy.ONE_FOR_ALL, 3), siblings((Restart.PERMANENT,) * 3))
    ready = [event for id in "abc" for event in (Ready(id, 1, 0.0),)]
    state, _ = run(state, Begin(), *ready, failing("b", 1, 1.0))
    state, _ = run(state, failing("c", 1, 1.0), failing("a", 1, 1.0))
    assert state.recent == (1.0,)


def test_merged_groups_wait_for_the_longest_delay() -> None:
    """The elder root takes over the younger one's delay, one timer, one ordered start."""
    supervisor = rules(Strategy.REST_FOR_ONE, 5).but(backoff=Backoff(first=0.0, base=8.0, jitter=0.0))
    state = initial(supervisor, siblings((Restart.PERMANENT,) * 3))
    state, _ = run(state, Begin(), Ready("a", 1, 0.0), Ready("b", 1, 0.0), Ready("c", 1, 0.0))
    state, _ = run(state, failing("c", 1, 1.0), TimerFired("c", 1), failing("c", 2, 1.0))
    state, seen = run(state, failing("a", 1, 2.0), failing("b", 1, 2.0))
    assert [effect.delay for effect in seen if isinstance(effect, Held)] == [8.0]
    assert [(effect.id, effect.delay) for effect in seen if isinstance(effect, Arm)] == [("a", 8.0)]
    _, seen = run(state, TimerFired("c", 2), TimerFired("a", 3), Ready("a", 2, 9.0), Ready("b", 2, 9.0))
    assert [effect.id for effect in seen if isinstance(effect, StartChild)] == ["a", "b", "c"]


def test_a_child_with_a_budget_of_its_own_spends_nobody_elses() -> None:
    """Nor do its siblings spend its; its delays are its own, too."""
    children = (Child("a", limit=RestartLimit(max_restarts=2), backoff=Backoff(first=7.0, jitter=0.0)), Child("b"))
    state = initial(rules(Strategy.ONE_FOR_ONE, 1), children)
    state, seen = run(
        state, Begin(), Ready("a", 1, 0.0), Ready("b", 1, 0.0), failing("a", 1, 0.0), failing("b", 1, 0.0)
    )
    assert [effect.delay for effect in seen if isinstance(effect, Arm)] == [7.0, 0.0]
    assert state.recent == (0.0,)
    state, seen = run(state, TimerFired("a", 1), failing("a", 2, 0.0))
    assert not any(isinstance(effect, LimitHit) for effect in seen)
    state, seen = run(state, TimerFired("a", 3), failing("a", 3, 0.0))
    assert any(isinstance(effect, LimitHit) for effect in seen)
