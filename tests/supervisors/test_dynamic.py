"""Children that come and go while the tree runs."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    ActorDown,
    ChildSpec,
    ChildStartError,
    ChildState,
    Failed,
    Outcome,
    Restart,
    Returned,
    SelfStop,
    SpecError,
    Stopped,
    Strategy,
    SupervisorSpec,
    UnknownChild,
    open_supervisor,
    root_cause,
)

from .actors import Diary, broken, failing_times, forever, never_ready


async def test_start_child_returns_when_it_is_ready(autojump_clock: MockClock) -> None:
    """And the reference works."""

    async def slow(ctx: ActorContext) -> None:
        await trio.sleep(3)
        ctx.ready("hello")
        await ctx.stopping.wait()

    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        began = trio.current_time()
        ref = await sup.start_child(ChildSpec(id="a", start=slow))
        assert trio.current_time() - began == 3
        assert (ref.path, ref.value) == ("a", "hello")
        assert sup.children() == ("a",)


async def test_a_child_that_nobody_waits_for_is_restarted_from_its_first_start_on(autojump_clock: MockClock) -> None:
    """Its failures cost restarts of the budget; a spec that doesn't fit is refused at once."""
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        sup.start_child_nowait(ChildSpec(id="a", start=failing_times(2, OSError("not yet"))))
        with pytest.raises(SpecError, match="already has a child named 'a'"):
            sup.start_child_nowait(ChildSpec(id="a", start=forever))
        assert sup.snapshot().children[0].state is ChildState.STARTING
        await sup.wait_ready("a")
        assert sup.snapshot().budget_left == 3


async def test_a_failed_first_start_is_the_callers_error(autojump_clock: MockClock) -> None:
    """The child is gone, nothing was restarted, no budget was spent."""
    outcomes: list[Outcome] = []
    error = OSError("no")
    spec = SupervisorSpec(id="s", strategy=Strategy.ONE_FOR_ALL, escalate=lambda error: True)
    async with open_supervisor(spec) as sup:
        with pytest.raises(ChildStartError, match="'a' did not start: OSError: no") as caught:
            await sup.start_child(ChildSpec(id="a", start=broken(error), on_exit=outcomes.append))
        assert caught.value.__cause__ is error
        assert sup.snapshot().children == ()
        assert sup.snapshot().budget_left == 5
        assert outcomes == [Failed(error, (error,))]
        await sup.start_child(ChildSpec(id="a", start=forever, stop_grace=0))


async def test_a_cancelled_start_child_removes_the_child(autojump_clock: MockClock) -> None:
    """Nobody knows of it, so nobody would ever stop it."""
    outcomes: list[Outcome] = []
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        with trio.move_on_after(1):
            await sup.start_child(ChildSpec(id="a", start=never_ready, on_exit=outcomes.append))
        await trio.testing.wait_all_tasks_blocked()
        assert sup.children() == ()
        assert len(outcomes) == 1


async def test_a_dynamic_child_is_restarted_once_it_was_ready(autojump_clock: MockClock) -> None:
    """Only its first start is special."""
    diary = Diary()
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        await sup.start_child(diary.child("a"))
        diary.fail["a"].set()
        await sup.ref("a").wait_down(1)
        await sup.wait_ready()
        assert diary.take() == ["up a1", "down a1", "up a2"]


async def test_dynamic_children_under_one_for_one_are_independent(autojump_clock: MockClock) -> None:
    """A hanging one delays no other, neither up nor down."""
    diary = Diary()
    async with open_supervisor(SupervisorSpec(id="s")) as sup, trio.open_nursery() as nursery:

        async def hang() -> None:
            with pytest.raises(ChildStartError):
                await sup.start_child(ChildSpec(id="hang", start=never_ready, start_timeout=None))

        nursery.start_soon(hang)
        await trio.testing.wait_all_tasks_blocked()
        await sup.start_child(diary.child("a"))
        assert isinstance(await sup.stop_child("hang"), Stopped)


async def test_stop_child_stops_for_good_and_touches_no_sibling(autojump_clock: MockClock) -> None:
    """A static child stays visible as STOPPED; a second call changes nothing."""
    diary = Diary()
    outcomes: list[Outcome] = []
    children = (diary.child("a"), diary.child("b", on_exit=outcomes.append), diary.child("c"))
    async with open_supervisor(SupervisorSpec(id="s", strategy=Strategy.ONE_FOR_ALL, children=children)) as sup:
        await sup.wait_ready()
        diary.take()
        assert await sup.stop_child("b", reason="not needed") == Stopped("not needed")
        assert await sup.stop_child("b") == Stopped("not needed")
        assert diary.take() == ["down b1"]
        assert outcomes == [Stopped("not needed")]
        assert [child.state.value for child in sup.snapshot().children] == ["ready", "stopped", "ready"]
        with pytest.raises(ActorDown, match="is stopped; start_child starts it again"):
            await sup.restart_child("b")
        diary.fail["a"].set()
        await sup.ref("a").wait_down(1)
        await sup.wait_ready()
        assert diary.take() == ["down a1", "down c1", "up a2", "up c2"]
    assert outcomes == [Stopped("not needed")]


async def test_a_static_child_that_was_stopped_and_started_keeps_its_place(autojump_clock: MockClock) -> None:
    """db, cache, web: maintenance of db, and the order of starts and stops is what it was."""
    diary = Diary()
    children = tuple(diary.child(id) for id in ("db", "cache", "web"))
    async with open_supervisor(SupervisorSpec(id="s", strategy=Strategy.REST_FOR_ONE, children=children)) as sup:
        await sup.wait_ready()
        await sup.stop_child("db")
        with pytest.raises(ChildStartError):
            await sup.start_child(ChildSpec(id="db", start=broken(OSError("still down"))))
        assert (await sup.start_child(diary.child("db"))).value == "db3"
        assert sup.children() == ("db", "cache", "web")
        diary.take()
        await sup.restart_child("db")
        await sup.ref("db").wait_down(3)
        await sup.wait_ready()
        assert diary.take() == ["down web1", "down cache1", "down db3", "up db4", "up cache2", "up web2"]
    assert diary.take() == ["down web2", "down cache2", "down db4"]


async def test_stop_child_ends_a_backoff(autojump_clock: MockClock) -> None:
    """A child that waits for its restart is gone at once."""
    diary = Diary()
    outcomes: list[Outcome] = []
    async with open_supervisor(SupervisorSpec(id="s", children=(diary.child("a", on_exit=outcomes.append),))) as sup:
        await sup.wait_ready()
        for epoch in (1, 2):
            diary.fail["a"].set()
            await sup.ref("a").wait_down(epoch)
            await trio.testing.wait_all_tasks_blocked()
        assert sup.snapshot().children[0].state is ChildState.BACKING_OFF
        await sup.stop_child("a", reason="enough")
        assert outcomes == [Stopped("enough")]


async def test_remove_child_frees_the_id(autojump_clock: MockClock) -> None:
    """Epochs of the namesake go on where the old one's ended."""
    diary = Diary()
    async with open_supervisor(SupervisorSpec(id="s", children=(diary.child("a"),))) as sup:
        await sup.wait_ready()
        with pytest.raises(SpecError, match="already has a child named 'a'"):
            await sup.start_child(diary.child("a"))
        await sup.remove_child("a")
        with pytest.raises(UnknownChild):
            await sup.stop_child("a")
        ref = await sup.start_child(diary.child("a"))
        assert await ref.wait_ready() == 2
        assert await ref.wait_down(1) == Stopped("replaced by epoch 2")


async def test_a_dynamic_child_that_is_done_is_forgotten(autojump_clock: MockClock) -> None:
    """No record is left to pile up."""
    outcomes: list[Outcome] = []

    async def job(ctx: ActorContext) -> int:
        return 42

    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        child = ChildSpec(id="job", start=job, restart=Restart.TRANSIENT, on_exit=outcomes.append)
        await sup.start_child(child)
        await trio.testing.wait_all_tasks_blocked()
        assert sup.snapshot().children == ()
        assert outcomes == [Returned(42)]


async def test_a_child_may_not_wait_for_its_own_end(autojump_clock: MockClock) -> None:
    """Neither directly nor from a task below it nor through its supervisor; it is told, not hung."""
    caught: list[str] = []

    async def start(ctx: ActorContext) -> None:
        ctx.ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self_stop)
        await ctx.stopping.wait()

    async def self_stop() -> None:
        nested = sup.nested("n")
        assert nested is not None
        for attempt in (lambda: nested.stop_child("a"), lambda: sup.stop_child("n"), lambda: sup.stop()):
            with pytest.raises(SelfStop) as error:
                await attempt()
            caught.append(str(error.value))

    spec = SupervisorSpec(id="s", children=(SupervisorSpec(id="n", children=(ChildSpec(id="a", start=start),)),))
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        await trio.testing.wait_all_tasks_blocked()
        assert len(caught) == 3


async def test_a_nested_supervisor_takes_dynamic_children(autojump_clock: MockClock) -> None:
    """They are lost when it restarts, for it starts from its specification."""
    diary = Diary()
    gone: list[Outcome] = []
    spec = SupervisorSpec(id="s", strategy=Strategy.ONE_FOR_ALL, children=(diary.child("a"), SupervisorSpec(id="n")))
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        nested = sup.nested("n")
        assert nested is not None
        ref = await nested.start_child(diary.child("x", on_exit=gone.append))
        assert ref.path == "n/x"
        assert sup.nested("nothing") is None
        assert sup.nested("a") is None
        diary.fail["a"].set()
        await sup.ref("a").wait_down(1)
        await sup.wait_ready()
        assert nested.children() == ()
        assert len(gone) == 1
        with pytest.raises(ActorDown):
            await ref.wait_ready()


async def test_a_stopping_supervisor_takes_no_children(autojump_clock: MockClock) -> None:
    """It says so instead of starting something nobody would stop."""
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        await sup.stop(reason="over")
        with pytest.raises(ActorDown, match="not running now"):
            await sup.start_child(ChildSpec(id="a", start=forever))


async def test_a_whole_subtree_can_be_added(autojump_clock: MockClock) -> None:
    """READY when all of it is; when it gives up first, the caller gets the root of the evil."""
    diary = Diary()
    good = SupervisorSpec(id="good", children=(diary.child("x"), diary.child("y")))
    error = PermissionError("403")
    bad = SupervisorSpec(
        id="bad",
        children=(diary.child("x"), ChildSpec(id="y", start=broken(error))),
        escalate=lambda error: isinstance(error, PermissionError),
    )
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        await sup.start_child(good)
        assert diary.take() == ["up x1", "up y1"]
        with pytest.raises(ChildStartError) as caught:
            await sup.start_child(bad)
        assert root_cause(caught.value) is error
        assert diary.take() == ["up x1", "down x1"]
        assert sup.children() == ("good",)
        assert sup.snapshot().budget_left == 5


@pytest.mark.parametrize("remove", [False, True])
async def test_stopping_a_child_ends_though_its_supervisor_restarts_meanwhile(
    remove: bool, autojump_clock: MockClock
) -> None:
    """What was asked for is done; that the specification brings the child back is the restart's doing."""
    diary = Diary()
    inner = SupervisorSpec(id="inner", children=(diary.child("x", drain=1),))
    async with open_supervisor(SupervisorSpec(id="s", children=(diary.child("a"), inner))) as sup:
        await sup.wait_ready()
        handle = sup.nested("inner")
        assert handle is not None
        stop = handle.remove_child if remove else handle.stop_child
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop, "x")
            await trio.testing.wait_all_tasks_blocked()
            await sup.restart_child("inner")
            nursery.cancel_scope.deadline = trio.current_time() + 5
        assert not nursery.cancel_scope.cancelled_caught
        await sup.wait_ready()
        assert diary.take() == ["up a1", "up x1", "down x1", "up x2"]
    assert diary.take() == ["down x2", "down a1"]


async def test_a_child_removed_while_its_supervisor_stops_is_told_of(autojump_clock: MockClock) -> None:
    """Removed from what is going anyway: its ``on_exit`` is called all the same, once."""
    diary = Diary()
    gone: list[Outcome] = []
    inner = SupervisorSpec(id="n", children=(diary.child("x", drain=2, on_exit=gone.append),))
    async with open_supervisor(SupervisorSpec(id="s", children=(inner,))) as sup, trio.open_nursery() as nursery:
        await sup.wait_ready()
        handle = sup.nested("n")
        assert handle is not None
        nursery.start_soon(sup.stop_child, "n")
        await trio.testing.wait_all_tasks_blocked()
        await handle.remove_child("x")
    assert len(gone) == 1


async def test_epochs_go_on_below_a_supervisor_that_was_removed_and_started_again(autojump_clock: MockClock) -> None:
    """An epoch names one incarnation of a path, for ever."""
    diary = Diary()
    inner = SupervisorSpec(id="n", children=(diary.child("x"),))
    async with open_supervisor(SupervisorSpec(id="s", children=(inner,))) as sup:
        await sup.wait_ready()
        ref = sup.ref("n/x")
        assert await ref.wait_ready() == 1
        await sup.remove_child("n")
        await sup.start_child(inner)
        assert await sup.ref("n/x").wait_ready() == 2
        assert await ref.wait_down(1) == Stopped("replaced by epoch 2")


async def test_a_child_removed_without_waiting_goes_by_itself(autojump_clock: MockClock) -> None:
    """``remove_child_nowait`` returns at once; the child gets its grace."""
    diary = Diary()
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        ref = await sup.start_child(diary.child("x", drain=1))
        sup.remove_child_nowait("x")
        assert await ref.wait_down(1) == Stopped("remove_child")
        assert diary.take() == ["up x1", "down x1"]
        with pytest.raises(UnknownChild):
            sup.remove_child_nowait("x")
