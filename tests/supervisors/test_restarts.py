"""Failures: who is restarted, when, how often, and what happens when that doesn't help."""

from __future__ import annotations

import contextvars
import random

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    Backoff,
    ChildFailed,
    ChildSpec,
    ChildState,
    Event,
    Failed,
    LinearBackoff,
    OnLimit,
    Outcome,
    Restart,
    RestartLimit,
    RestartLimitExceeded,
    Returned,
    StartTimeout,
    Stopped,
    Strategy,
    SupervisorSpec,
    UnexpectedReturn,
    events,
    open_supervisor,
    root_cause,
)

from .actors import Diary, broken, failing_times, forever, never_ready

STEADY = Backoff(first=1, base=2, jitter=0)


@pytest.mark.parametrize(
    ("strategy", "lines"),
    [
        (Strategy.ONE_FOR_ONE, ["down b1", "up b2"]),
        (Strategy.ONE_FOR_ALL, ["down b1", "down c1", "down a1", "up a2", "up b2", "up c2"]),
        (Strategy.REST_FOR_ONE, ["down b1", "down c1", "up b2", "up c2"]),
    ],
)
async def test_the_strategy_decides_who_is_restarted(
    strategy: Strategy, lines: list[str], autojump_clock: MockClock
) -> None:
    """The affected stop in reverse and start in order, after one delay."""
    diary = Diary()
    children = tuple(diary.child(id) for id in "abc")
    spec = SupervisorSpec(id="s", strategy=strategy, children=children, backoff=STEADY)
    async with open_supervisor(spec, listener=diary.events.append) as sup:
        await sup.wait_ready()
        diary.take()
        diary.fail["b"].set()
        await trio.sleep(0.5)
        assert sup.snapshot().children[1].state is ChildState.BACKING_OFF
        await sup.wait_ready()
        assert diary.take() == lines
        assert sup.snapshot().budget_left == 4
    (failed,) = diary.of(events.ChildFailed)
    assert (failed.path, failed.epoch, type(failed.error)) == ("b", 1, OSError)
    assert [event.downtime for event in diary.of(events.ChildRestarted) if event.path == "b"] == [1.0]


async def test_the_first_retry_is_free_and_then_delays_grow(autojump_clock: MockClock) -> None:
    """0, base, base * factor, ...; failed starts count like any failure."""
    moments: list[float] = []

    async def flaky(ctx: ActorContext) -> None:
        moments.append(trio.current_time())
        assert ctx.attempt == len(moments) == ctx.epoch
        if len(moments) < 5:
            raise OSError("no")
        await forever(ctx)

    spec = SupervisorSpec(
        id="s", children=(ChildSpec(id="a", start=flaky, stop_grace=0),), backoff=Backoff(base=0.5, jitter=0)
    )
    began = trio.current_time()
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
    assert [at - began for at in moments] == [0, 0, 0.5, 1.5, 3.5]


async def test_jitter_is_drawn_from_the_given_rng(autojump_clock: MockClock) -> None:
    """So that a run can be replayed."""

    async def delays() -> list[float]:
        diary = Diary()
        child = ChildSpec(id="a", start=failing_times(4, OSError("no")), stop_grace=0)
        spec = SupervisorSpec(id="s", children=(child,))
        async with open_supervisor(spec, listener=diary.events.append, rng=random.Random(7)) as sup:
            await sup.wait_ready()
        return [event.delay for event in diary.of(events.ChildBackingOff)]

    first = await delays()
    assert first == await delays()
    assert 0.25 < first[1] <= 0.5


async def test_a_spent_budget_escalates_as_one_bare_exception(autojump_clock: MockClock) -> None:
    """It cancels the block, its cause is the last failure, its history tells the rest; siblings stop in order."""
    diary = Diary()
    child = ChildSpec(id="bad", start=broken(OSError("disk on fire")))
    spec = SupervisorSpec(id="s", children=(diary.child("a"), child), limit=RestartLimit(max_restarts=2))
    with pytest.raises(RestartLimitExceeded, match=r"budget of 2 restarts within 60 s.*disk on fire") as caught:
        async with open_supervisor(spec, listener=diary.events.append):
            await trio.sleep_forever()
    error = caught.value
    assert isinstance(error.__cause__, OSError)
    assert error.path == ""
    assert [failure.epoch for failure in error.history] == [1, 2, 3]
    assert diary.take() == ["up a1", "down a1"]
    assert len(diary.of(events.LimitReached)) == len(diary.of(events.Escalated)) == 1


async def test_a_waiter_gets_the_escalation(autojump_clock: MockClock) -> None:
    """``wait_ready`` doesn't wait for what will never be."""
    spec = SupervisorSpec(
        id="s", children=(ChildSpec(id="a", start=broken(OSError("x"))),), limit=RestartLimit(max_restarts=0)
    )
    with pytest.raises(RestartLimitExceeded):
        async with open_supervisor(spec) as sup:
            await sup.wait_ready()


async def test_a_cool_down_goes_on_with_a_fresh_budget(autojump_clock: MockClock) -> None:
    """For outages of others: the supervisor neither fails nor storms, and says when it tries next."""
    limit = RestartLimit(max_restarts=2, within=600, on_limit=OnLimit.COOL_DOWN, cool_down=100)
    child = ChildSpec(id="a", start=failing_times(4, OSError("no")), stop_grace=0)
    spec = SupervisorSpec(id="s", children=(child,), limit=limit, backoff=STEADY)
    diary = Diary()
    async with open_supervisor(spec, listener=diary.events.append) as sup:
        await trio.sleep(50)
        view = sup.snapshot().children[0]
        assert (view.state, view.next_attempt_in) == (ChildState.COOLING_DOWN, 53.0)
        await sup.wait_ready()
    kinds = [type(event) for event in diary.events if isinstance(event, events.ChildBackingOff)]
    assert kinds == [events.ChildBackingOff, events.ChildBackingOff, events.CoolingDown, events.ChildBackingOff]


async def test_an_incurable_failure_escalates_at_once(autojump_clock: MockClock) -> None:
    """``escalate`` sees the exception; no restart is spent."""
    child = ChildSpec(id="a", start=broken(PermissionError("403")))
    spec = SupervisorSpec(id="s", children=(child,), escalate=lambda error: isinstance(error, PermissionError))
    with pytest.raises(ChildFailed, match=r"no restart could cure this.*403") as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert len(caught.value.history) == 1


async def test_escalate_sees_the_root_cause_through_nested_supervisors(autojump_clock: MockClock) -> None:
    """Not the inner ``RestartLimitExceeded``, nor the group the failure came in."""
    asked: list[BaseException] = []

    def escalate(error: BaseException) -> bool:
        asked.append(error)
        return isinstance(error, PermissionError)

    async def grouped(ctx: ActorContext) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broken(PermissionError("403")), ctx)
            await trio.sleep_forever()

    inner = SupervisorSpec(id="n", children=(ChildSpec(id="x", start=grouped),), limit=RestartLimit(max_restarts=0))
    spec = SupervisorSpec(id="s", children=(inner,), escalate=escalate)
    with pytest.raises(ChildFailed) as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert [type(error) for error in asked] == [PermissionError]
    assert isinstance(caught.value.__cause__, RestartLimitExceeded)
    assert caught.value.__cause__.path == "n"
    assert isinstance(root_cause(caught.value), PermissionError)


async def test_a_nested_escalation_is_one_failure_for_every_restart_type(autojump_clock: MockClock) -> None:
    """OTP's trap: a transient subtree that gave up silently stays down.  Here it is restarted."""
    child = ChildSpec(id="x", start=failing_times(2, OSError("no")), stop_grace=0)
    inner = SupervisorSpec(
        id="n", children=(child,), limit=RestartLimit(max_restarts=1, within=9), restart=Restart.TRANSIENT
    )
    diary = Diary()
    async with open_supervisor(SupervisorSpec(id="s", children=(inner,)), listener=diary.events.append) as sup:
        await sup.wait_ready()
        view = sup.snapshot().find("n")
        assert view is not None
        assert view.epoch == 2
        assert view.last_failure is not None
        assert view.last_failure["type"] == "RestartLimitExceeded"
        assert sup.snapshot().budget_left == 4
    assert [event.path for event in diary.of(events.Escalated)] == ["n"]


@pytest.mark.parametrize(
    ("restart", "result", "state"),
    [
        (Restart.PERMANENT, None, ChildState.READY),
        (Restart.PERMANENT, OSError("x"), ChildState.READY),
        (Restart.TRANSIENT, None, ChildState.COMPLETED),
        (Restart.TRANSIENT, OSError("x"), ChildState.READY),
        (Restart.TEMPORARY, None, ChildState.COMPLETED),
        (Restart.TEMPORARY, OSError("x"), ChildState.STOPPED),
    ],
)
async def test_the_restart_type_decides_which_ends_matter(
    restart: Restart, result: OSError | None, state: ChildState, autojump_clock: MockClock
) -> None:
    """PERMANENT: every end; TRANSIENT: failures; TEMPORARY: none."""
    outcomes: list[Outcome] = []

    async def work(ctx: ActorContext) -> str:
        ctx.ready()
        if ctx.epoch > 1:
            await ctx.stopping.wait()
            return ""
        await trio.sleep(1)
        if result is not None:
            raise result
        return "value"

    child = ChildSpec(id="a", start=work, restart=restart, on_exit=outcomes.append)
    async with open_supervisor(SupervisorSpec(id="s", children=(child,))) as sup:
        await trio.sleep(3)
        assert sup.snapshot().children[0].state is state
        gone = state is not ChildState.READY
        assert outcomes == ([] if not gone else [Returned("value")] if result is None else [Failed(result, (result,))])
    if not gone:
        assert outcomes == [Stopped("the block was left")]


async def test_a_completed_child_is_not_resurrected_by_its_group(autojump_clock: MockClock) -> None:
    """COMPLETED is absorbing, also under ONE_FOR_ALL."""
    diary = Diary()
    runs: list[int] = []

    async def once(ctx: ActorContext) -> None:
        runs.append(ctx.epoch)

    children = (ChildSpec(id="once", start=once, restart=Restart.TRANSIENT), diary.child("a"))
    async with open_supervisor(SupervisorSpec(id="s", strategy=Strategy.ONE_FOR_ALL, children=children)) as sup:
        await sup.wait_ready()
        diary.fail["a"].set()
        await sup.ref("a").wait_down(1)
        await sup.wait_ready()
        assert diary.take() == ["up a1", "down a1", "up a2"]
    assert runs == [1]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_a_temporary_child_goes_for_good_with_its_group(strategy: Strategy, autojump_clock: MockClock) -> None:
    """As in OTP: what must not be restarted for its own failure is not for another's.  By hand it is."""
    diary = Diary()
    gone: list[Outcome] = []
    job = diary.child("job", restart=Restart.TEMPORARY, on_exit=gone.append)
    spec = SupervisorSpec(id="s", strategy=strategy, children=(diary.child("a"), job, diary.child("b")))
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        await sup.restart_child("job")
        await sup.ref("job").wait_down(1)
        await sup.wait_ready()
        diary.take()
        epoch = await sup.ref("a").wait_ready()
        diary.fail["a"].set()
        await sup.ref("a").wait_down(epoch)
        await sup.wait_ready()
        assert [line.rstrip("123") for line in diary.take()] == ["down a", "down b", "down job", "up a", "up b"]
        assert gone == [Stopped("'a' is restarted, and its group with it")]


async def test_one_of_a_pool_that_keeps_failing_goes_alone(autojump_clock: MockClock) -> None:
    """Its own budget, its own delays, its own end: the pool goes on, and has spent nothing."""
    diary = Diary()
    gone: list[Outcome] = []
    error = OSError("always")

    async def failing(ctx: ActorContext) -> None:
        ctx.ready()
        raise error

    limit = RestartLimit(max_restarts=2, on_limit=OnLimit.STOP_CHILD)
    bad = ChildSpec(id="bad", start=failing, limit=limit, backoff=LinearBackoff(start=4, step=0, maximum=4))
    async with open_supervisor(SupervisorSpec(id="pool", limit=RestartLimit(max_restarts=1))) as sup:
        await sup.start_child(diary.child("good"))
        began = trio.current_time()
        await sup.start_child(bad.but(on_exit=gone.append))
        view = sup.snapshot().find("bad")
        assert view is not None
        assert view.budget_left == 1
        await sup.ref("bad").wait_down(3)
        assert trio.current_time() - began == 8
        assert gone == [Failed(error, (error,))]
        assert sup.children() == ("good",)
        assert sup.snapshot().budget_left == 1
    assert diary.take() == ["up good1", "down good1"]


async def test_a_child_that_must_not_fail_takes_its_supervisor_with_it(autojump_clock: MockClock) -> None:
    """A budget of its own may be smaller than its siblings', and says whose it was."""
    spec = SupervisorSpec(
        id="s", children=(ChildSpec(id="a", start=broken(OSError("x")), limit=RestartLimit(max_restarts=0)),)
    )
    with pytest.raises(RestartLimitExceeded, match="its child has used up its own budget of 0 restarts"):
        async with open_supervisor(spec):
            await trio.sleep_forever()


async def test_a_start_that_takes_too_long_is_a_failure(autojump_clock: MockClock) -> None:
    """The half-started task is cancelled and gone before the next attempt."""
    child = ChildSpec(id="a", start=never_ready, start_timeout=3)
    spec = SupervisorSpec(id="s", children=(child,), limit=RestartLimit(max_restarts=1))
    began = trio.current_time()
    with pytest.raises(RestartLimitExceeded, match="not READY within 3 s") as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, StartTimeout)
    assert trio.current_time() - began == 6
    (note,) = caught.value.__cause__.__notes__
    assert "in never_ready" in note


async def test_children_of_a_callable_are_evaluated_at_every_start(autojump_clock: MockClock) -> None:
    """The desired state lives above; what was removed from it meanwhile is reported gone."""
    diary = Diary()
    gone: list[str] = []
    wanted = ["x"]

    def children() -> tuple[ChildSpec, ...]:
        def child(id: str) -> ChildSpec:
            return diary.child(id, on_exit=lambda outcome: gone.append(id))

        return tuple(child(id) for id in wanted)

    spec = SupervisorSpec(
        id="s", strategy=Strategy.REST_FOR_ONE, children=(diary.child("a"), SupervisorSpec(id="n", children=children))
    )
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        nested = sup.nested("n")
        assert nested is not None
        await nested.start_child(diary.child("y", on_exit=lambda outcome: gone.append("y")))
        wanted[:] = ["z", "x"]
        assert diary.take() == ["up a1", "up x1", "up y1"]
        diary.fail["a"].set()
        await sup.ref("a").wait_down(1)
        await sup.wait_ready()
        assert sorted(diary.take()[-3:]) == ["up a2", "up x2", "up z2"]
        assert gone == ["y"]
    assert sorted(gone) == ["x", "y", "z"]


async def test_a_callable_that_raises_is_a_failure_of_its_supervisor(autojump_clock: MockClock) -> None:
    """It goes through the parent's budget like any other."""

    def children() -> tuple[ChildSpec, ...]:
        raise KeyError("desired state")

    spec = SupervisorSpec(
        id="s", children=(SupervisorSpec(id="n", children=children),), limit=RestartLimit(max_restarts=1)
    )
    with pytest.raises(RestartLimitExceeded, match="desired state"):
        async with open_supervisor(spec):
            await trio.sleep_forever()


async def test_a_keyboard_interrupt_in_a_child_ends_the_program(autojump_clock: MockClock) -> None:
    """Never restarted, never wrapped; siblings still stop in order."""
    diary = Diary()
    spec = SupervisorSpec(id="s", children=(diary.child("a"), ChildSpec(id="b", start=broken(KeyboardInterrupt()))))
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert diary.take() == ["up a1", "down a1"]


async def test_an_on_exit_that_raises_ends_the_tree(autojump_clock: MockClock) -> None:
    """A bug above the tree is not swallowed."""

    def on_exit(outcome: Outcome) -> None:
        raise ZeroDivisionError

    child = ChildSpec(id="a", start=forever, stop_grace=0, on_exit=on_exit)
    with pytest.raises(ChildFailed, match="on_exit of child 'a' raised ZeroDivisionError"):  # noqa: PT012
        async with open_supervisor(SupervisorSpec(id="s", children=(child,))) as sup:
            await sup.wait_ready()
            await sup.stop_child("a")
            await trio.sleep_forever()


async def test_what_the_block_raises_comes_out_unchanged(autojump_clock: MockClock) -> None:
    """No group around it."""
    diary = Diary()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with open_supervisor(SupervisorSpec(id="s", children=(diary.child("a"),))) as sup:
            await sup.wait_ready()
            raise ZeroDivisionError
    assert diary.take() == ["up a1", "down a1"]


async def test_restarting_by_hand_cuts_a_backoff_short(autojump_clock: MockClock) -> None:
    """And costs nothing of the budget."""
    child = ChildSpec(id="a", start=failing_times(1, OSError("no")), stop_grace=0)
    spec = SupervisorSpec(id="s", children=(child,), backoff=Backoff(first=1000, maximum=1000, jitter=0))
    async with open_supervisor(spec) as sup:
        await trio.sleep(1)
        await sup.restart_child("a")
        await sup.wait_ready()
        assert trio.current_time() < 2
        assert sup.snapshot().budget_left == 4
        epoch = await sup.ref("a").wait_ready()
        await sup.restart_child("a")
        assert await sup.ref("a").wait_ready() == epoch + 1
        assert sup.snapshot().budget_left == 4


async def test_a_backoff_that_raises_ends_everything_loudly(autojump_clock: MockClock) -> None:
    """The kernel can't decide any more: no hang, no group, the error itself."""

    class Broken:
        def delay(self, streak: int, u: float) -> float:
            raise ZeroDivisionError

        def after_failure(self, streak: int, served: float | None, u: float) -> tuple[float, int]:
            raise ZeroDivisionError

    spec = SupervisorSpec(
        id="s",
        children=(ChildSpec(id="a", start=forever), ChildSpec(id="b", start=broken(OSError("x")))),
        backoff=Broken(),
    )
    with pytest.raises(ZeroDivisionError):
        async with open_supervisor(spec):
            await trio.sleep_forever()


async def test_an_escalate_that_raises_becomes_the_failure(autojump_clock: MockClock) -> None:
    """It is a bug, and no restart cures it."""

    def escalate(error: BaseException) -> bool:
        raise ZeroDivisionError("in escalate")

    spec = SupervisorSpec(id="s", children=(ChildSpec(id="a", start=broken(OSError("x"))),), escalate=escalate)
    with pytest.raises(ChildFailed, match="ZeroDivisionError: in escalate") as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__cause__, OSError)


colour = contextvars.ContextVar("colour", default="none")


async def test_children_see_the_context_of_whoever_opened_the_tree(autojump_clock: MockClock) -> None:
    """Not that of the sibling whose failure happened to start them."""
    seen: list[str] = []

    async def painter(ctx: ActorContext) -> None:
        seen.append(colour.get())
        colour.set("red")
        ctx.ready()
        if ctx.epoch == 1:
            raise OSError("x")
        await ctx.stopping.wait()

    colour.set("blue")
    async with open_supervisor(SupervisorSpec(id="s", children=(ChildSpec(id="a", start=painter),))) as sup:
        await sup.ref("a").wait_down(1)
        await sup.wait_ready()
    assert seen == ["blue", "blue"]


async def test_ready_after_the_start_timeout_is_too_late(autojump_clock: MockClock) -> None:
    """The cancellation is under way; what was READY for a moment would be a lie."""

    async def late(ctx: ActorContext) -> None:
        if ctx.epoch == 1:
            with trio.CancelScope(shield=True):
                await trio.sleep(5.5)
        ctx.ready()
        await ctx.stopping.wait()

    diary = Diary()
    spec = SupervisorSpec(id="s", children=(ChildSpec(id="a", start=late, start_timeout=5),))
    async with open_supervisor(spec, listener=diary.events.append) as sup:
        await sup.wait_ready()
    assert [event.epoch for event in diary.of(events.ChildReady)] == [2]


async def test_a_permanent_child_that_keeps_returning_is_a_failure(autojump_clock: MockClock) -> None:
    """Its supervisor gives up in order and says so; a parent restarts that supervisor, and nobody else."""
    diary = Diary()

    async def returns(ctx: ActorContext) -> None:
        ctx.ready()

    limit = RestartLimit(max_restarts=1)
    quitter = ChildSpec(id="x", start=returns)
    with pytest.raises(RestartLimitExceeded, match="'x' returned, though it is PERMANENT") as caught:
        async with open_supervisor(SupervisorSpec(id="s", limit=limit, children=(diary.child("a"), quitter))) as sup:
            await sup.wait_stopped()
    assert isinstance(caught.value.__cause__, UnexpectedReturn)
    assert diary.take() == ["up a1", "down a1"]
    inner = SupervisorSpec(id="inner", limit=limit, children=(quitter,))
    forgiving = RestartLimit(max_restarts=None)
    async with open_supervisor(SupervisorSpec(id="s", limit=forgiving, children=(diary.child("b"), inner))) as sup:
        await trio.sleep(60)
        assert diary.take() == ["up b1"]
        view = sup.snapshot().find("inner")
        assert view is not None
        assert view.restarts > 1


async def test_a_child_is_removed_at_the_instant_its_delay_is_over(autojump_clock: MockClock) -> None:
    """Its timer has fired, and what follows from that is yet to come: it is gone, and the tree goes on in order."""
    gone: list[str] = []

    def child(id: str, first: float) -> ChildSpec:
        backoff = Backoff(first=first, jitter=0.0)
        return ChildSpec(id=id, start=start, backoff=backoff, on_exit=lambda outcome: gone.append(id))

    async def start(ctx: ActorContext) -> None:
        ctx.ready()
        await trio.sleep(1.0 if ctx.id == "late" else 0.5)
        raise OSError("no")

    def hear(event: Event) -> None:
        # Requests of a listener are met after the step that it hears of.
        match event:
            case events.ChildBackingOff(path="late"):
                sup.remove_child_nowait("early")
            case events.ChildGone(path="early"):
                sup.remove_child_nowait("late")

    diary = Diary()
    spec = SupervisorSpec(id="s", children=(child("early", 100.0), child("late", 0.0), diary.child("other")))
    async with open_supervisor(spec, listener=hear) as sup:
        await trio.sleep(2.0)
        assert gone == ["early", "late"]
        other = sup.snapshot().find("other")
        assert other is not None
        assert (other.state, other.epoch) == (ChildState.READY, 1)
