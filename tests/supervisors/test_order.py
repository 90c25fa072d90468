"""Starts go in order, stops in reverse, each within its time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    AutoShutdown,
    ChildSpec,
    ChildState,
    Outcome,
    Restart,
    Stopped,
    Strategy,
    SupervisorSpec,
    events,
    open_supervisor,
)

from .actors import Diary, forever, never_ready


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_child_starts_when_its_elder_is_ready(strategy: Strategy, autojump_clock: MockClock) -> None:
    """The next sibling waits for ``ctx.ready()``, not for the mere existence of the task."""
    moments: dict[str, float] = {}

    async def slow(ctx: ActorContext) -> None:
        moments[ctx.id] = trio.current_time()
        await trio.sleep(2)
        ctx.ready()
        await trio.sleep_forever()

    children = tuple(ChildSpec(id=id, start=slow, stop_grace=0) for id in "abc")
    began = trio.current_time()
    async with open_supervisor(SupervisorSpec(id="s", strategy=strategy, children=children)) as sup:
        await sup.wait_ready()
    assert {id: at - began for id, at in moments.items()} == {"a": 0, "b": 2, "c": 4}


@pytest.mark.parametrize("strategy", Strategy)
async def test_leaving_the_block_stops_in_reverse_order(strategy: Strategy, autojump_clock: MockClock) -> None:
    """Each child is asked when the younger one is gone."""
    diary = Diary()
    children = tuple(diary.child(id, drain=1) for id in "abc")
    async with open_supervisor(SupervisorSpec(id="s", strategy=strategy, children=children)) as sup:
        await sup.wait_ready()
        assert diary.take() == ["up a1", "up b1", "up c1"]
    assert diary.take() == ["down c1", "down b1", "down a1"]


async def test_nested_supervisors_start_and_stop_as_one_sibling(autojump_clock: MockClock) -> None:
    """A nested supervisor is READY when its children are; it is gone when they are."""
    diary = Diary()
    nested = SupervisorSpec(id="n", children=(diary.child("x", drain=1), diary.child("y", drain=1)))
    spec = SupervisorSpec(id="s", children=(diary.child("a"), nested, diary.child("b")))
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        assert diary.take() == ["up a1", "up x1", "up y1", "up b1"]
    assert diary.take() == ["down b1", "down y1", "down x1", "down a1"]


async def test_an_outer_cancellation_becomes_an_ordered_stop(autojump_clock: MockClock) -> None:
    """Children drain within their grace, in reverse, although everything around them is cancelled."""
    diary = Diary()
    began = trio.current_time()
    with trio.move_on_after(10) as outer:
        async with open_supervisor(
            SupervisorSpec(id="s", children=(diary.child("a", drain=3), diary.child("b", drain=2)))
        ):
            await trio.sleep_forever()
    assert outer.cancelled_caught
    assert diary.take() == ["up a1", "up b1", "down b1", "down a1"]
    assert trio.current_time() - began == 15


async def test_the_block_unwinds_before_its_children(autojump_clock: MockClock) -> None:
    """An outer cancellation lets the block clean up with its children still serving."""
    diary = Diary()
    with trio.move_on_after(1):
        async with open_supervisor(SupervisorSpec(id="s", children=(diary.child("a"),))) as sup:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
                assert sup.snapshot().children[0].state is ChildState.READY


async def test_a_hanging_start_is_cancelled_at_once(autojump_clock: MockClock) -> None:
    """A child that isn't READY has nothing to drain: no grace."""
    began = trio.current_time()
    with trio.move_on_after(1):
        async with open_supervisor(
            SupervisorSpec(id="s", children=(ChildSpec(id="a", start=never_ready, stop_grace=9),))
        ):
            await trio.sleep_forever()
    assert trio.current_time() - began == 1


async def test_after_the_grace_a_child_is_cancelled(autojump_clock: MockClock) -> None:
    """First ``ctx.stopping``, then cancellation after ``stop_grace`` seconds."""
    outcomes: list[Outcome] = []
    began = trio.current_time()
    child = ChildSpec(id="a", start=forever, stop_grace=4, on_exit=outcomes.append)
    async with open_supervisor(SupervisorSpec(id="s", children=(child,))) as sup:
        await sup.wait_ready()
    assert trio.current_time() - began == 4
    assert outcomes == [Stopped("the block was left")]


async def test_the_deadline_cuts_all_graces(autojump_clock: MockClock) -> None:
    """The ordered stop as a whole takes no longer than the deadline; the rest is cancelled at once."""
    began = trio.current_time()
    seen: list[events.Event] = []
    children = tuple(ChildSpec(id=id, start=forever, stop_grace=10) for id in "abcd")
    async with open_supervisor(SupervisorSpec(id="s", children=children), deadline=25, listener=seen.append) as sup:
        await sup.wait_ready()
    assert trio.current_time() - began == 25
    (passed,) = [event for event in seen if isinstance(event, events.DeadlinePassed)]
    assert "a" in passed.left


async def test_the_deadline_reaches_nested_children(autojump_clock: MockClock) -> None:
    """Also those whose supervisor hasn't been asked yet; none of them is started again."""
    began = trio.current_time()
    starts: list[str] = []

    async def stubborn(ctx: ActorContext) -> None:
        starts.append(ctx.path)
        await forever(ctx)

    def pair(id: str) -> SupervisorSpec:
        return SupervisorSpec(id=id, children=tuple(ChildSpec(id=c, start=stubborn, stop_grace=30) for c in "xy"))

    async with open_supervisor(SupervisorSpec(id="s", children=(pair("m"), pair("n"))), deadline=7) as sup:
        await sup.wait_ready()
    assert trio.current_time() - began == 7
    assert starts == ["m/x", "m/y", "n/x", "n/y"]


async def test_a_child_that_defies_cancellation_is_reported_stuck(autojump_clock: MockClock) -> None:
    """One second after the cancellation, with its stack; the supervisor goes on serving others."""
    diary = Diary()
    release = trio.Event()

    async def evil(ctx: ActorContext) -> None:
        ctx.ready()
        with trio.CancelScope(shield=True):
            await release.wait()

    spec = SupervisorSpec(id="s", children=(ChildSpec(id="evil", start=evil, stop_grace=3), diary.child("good")))
    async with open_supervisor(spec, listener=diary.events.append) as sup, trio.open_nursery() as nursery:
        await sup.wait_ready()
        began = trio.current_time()
        nursery.start_soon(sup.stop_child, "evil")
        async with sup.events() as stream:
            async for event in stream:
                if isinstance(event, events.ChildStuck):
                    break
        assert trio.current_time() - began == 4
        assert isinstance(event, events.ChildStuck)
        assert any("in evil" in line for line in event.stack)
        view = sup.snapshot().find("evil")
        assert view is not None
        assert view.state is ChildState.STUCK
        await sup.start_child(diary.child("late"))
        assert diary.take() == ["up good1", "up late1"]
        release.set()


async def test_a_stuck_child_is_not_started_again_before_it_is_gone(autojump_clock: MockClock) -> None:
    """Never two incarnations, whatever a start timeout says."""
    alive = 0

    async def evil(ctx: ActorContext) -> None:
        nonlocal alive
        alive += 1
        assert alive == 1
        if ctx.epoch == 1:
            with trio.CancelScope(shield=True):
                await trio.sleep(100)
        alive -= 1
        ctx.ready()
        await ctx.stopping.wait()

    spec = SupervisorSpec(id="s", children=(ChildSpec(id="evil", start=evil, start_timeout=5),))
    async with open_supervisor(spec) as sup:
        await trio.sleep(50)
        assert sup.snapshot().children[0].state is ChildState.STUCK
        await sup.wait_ready()
        assert 100 <= trio.current_time() < 101
        assert sup.snapshot().children[0].epoch == 2


async def test_recalled_siblings_under_one_for_one_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    """Children of a callable are independent: they start and drain side by side."""
    diary = Diary()

    def children() -> tuple[ChildSpec, ...]:
        return tuple(diary.child(id, drain=4) for id in "abc")

    async with open_supervisor(SupervisorSpec(id="s", children=children)) as sup:
        await sup.wait_ready()
        began = trio.current_time()
    assert trio.current_time() - began == 4


async def test_auto_shutdown_ends_the_tree_when_a_significant_child_is_done(autojump_clock: MockClock) -> None:
    """The siblings are stopped in order, and it is no failure."""
    diary = Diary()

    async def job(ctx: ActorContext) -> str:
        await trio.sleep(5)
        return "done"

    children = (diary.child("a"), ChildSpec(id="job", start=job, restart=Restart.TRANSIENT, significant=True))
    spec = SupervisorSpec(id="s", children=children, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    async with open_supervisor(spec, listener=diary.events.append) as sup:
        await sup.wait_stopped()
        assert diary.take() == ["up a1", "down a1"]
        assert "ChildCompleted" in diary.kinds("job")
        assert [child.state for child in sup.snapshot().children] == [ChildState.STOPPED, ChildState.COMPLETED]


async def test_a_child_stopped_before_its_first_step_is_watched_like_any_other(autojump_clock: MockClock) -> None:
    """STUCK is reported a second after its cancellation, not when its start timeout would be over."""
    release = trio.Event()

    async def evil(ctx: ActorContext) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    began = trio.current_time()
    spec = SupervisorSpec(id="s", children=(ChildSpec(id="evil", start=evil),))
    async with open_supervisor(spec) as sup, sup.events() as stream, trio.open_nursery() as nursery:
        nursery.start_soon(sup.stop, name="stop at once")
        async for event in stream:
            if isinstance(event, events.ChildStuck):
                break
        assert trio.current_time() - began == 1
        release.set()


async def test_a_child_waiting_for_its_turn_to_stop_is_not_to_be_relied_on(autojump_clock: MockClock) -> None:
    """``wait_ready`` right after a restart was asked for means the next incarnation."""
    diary = Diary()
    children = (diary.child("a"), diary.child("b", drain=4))
    async with open_supervisor(SupervisorSpec(id="s", strategy=Strategy.REST_FOR_ONE, children=children)) as sup:
        await sup.wait_ready()
        await sup.restart_child("a")
        assert [child.state.value for child in sup.snapshot().children] == ["stopping", "stopping"]
        assert await sup.ref("a").wait_ready() == 2
        # Whether b is up again by now is for trio's scheduler, which shuffles, to decide.
        assert diary.take()[:5] == ["up a1", "up b1", "down b1", "down a1", "up a2"]


async def test_what_an_actor_awaits_until_stopping_is_cancelled_by_the_stop_and_the_actor_drains(
    autojump_clock: MockClock,
) -> None:
    """Without a task of its own to wait for the stop; an actor that was asked before waits for nothing."""
    diary = Diary()

    async def start(ctx: ActorContext) -> None:
        with ctx.until_stopping():
            await trio.sleep(1)
        diary.note(f"waited for what came first, after {trio.current_time() - began:g} s")
        ctx.ready()
        with ctx.until_stopping() as scope:
            await trio.sleep_forever()
        diary.note(f"asked to stop: {scope.cancelled_caught}")
        await trio.sleep(2)
        with ctx.until_stopping():
            await trio.sleep_forever()
        diary.note(f"drained after {trio.current_time() - began:g} s")

    began = trio.current_time()
    spec = SupervisorSpec(id="root", children=(ChildSpec(id="a", start=start, stop_grace=5.0),))
    async with open_supervisor(spec) as supervisor:
        await supervisor.wait_ready()
    assert diary.lines == [
        "waited for what came first, after 1 s",
        "asked to stop: True",
        "drained after 3 s",
    ]
