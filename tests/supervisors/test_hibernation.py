"""Actors that live on without a task."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    ChildFailed,
    ChildSpec,
    ChildState,
    Hibernation,
    StartTimeout,
    Stopped,
    SupervisorSpec,
    open_supervisor,
    root_cause,
)


class Sleeper:
    """Says that it is ready and hibernates; what it is to do when it is woken is its maker's."""

    def __init__(self, *, ready: bool = True, fails: bool = False, again: bool = False) -> None:
        self.ready = ready
        self.fails = fails
        self.again = again
        self.contexts: list[ActorContext] = []
        self.resumed: list[str] = []
        self.cleaned = 0

    async def start(self, ctx: ActorContext) -> Hibernation:
        self.contexts.append(ctx)
        if self.ready:
            ctx.ready("asleep")
        return ctx.hibernate(self.resume)

    async def resume(self, ctx: ActorContext) -> Hibernation | None:
        assert ctx is self.contexts[-1]
        self.resumed.append(ctx.stop_reason)
        try:
            if self.fails and not ctx.stop_reason:
                raise OSError("woken, and broke")
            if self.again and not ctx.stop_reason:
                return ctx.hibernate(self.resume)
            await trio.sleep(1)
            return None
        finally:
            self.cleaned += 1


def tree(sleeper: Sleeper, *, stop_grace: float = 5.0) -> SupervisorSpec:
    return SupervisorSpec(id="s", children=(ChildSpec(id="a", start=sleeper.start, stop_grace=stop_grace),))


async def test_it_serves_without_a_task_and_drains_when_it_is_asked_to_stop(autojump_clock: MockClock) -> None:
    """READY for as long as it likes; what it left to be done runs within its grace."""
    sleeper = Sleeper()
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_supervisor(tree(sleeper)) as sup:
        await sup.wait_ready()
        await trio.sleep(100)
        view = sup.snapshot().find("a")
        assert view is not None
        assert (view.state, view.epoch, sup.ref("a").value) == (ChildState.READY, 1, "asleep")
        assert trio.lowlevel.current_statistics().tasks_living == before + 1  # the tree's timers
        assert sleeper.resumed == []
        began = trio.current_time()
        outcome = await sup.stop_child("a", reason="enough")
        assert trio.current_time() - began == 1
        assert outcome == Stopped("enough")
    assert (sleeper.resumed, sleeper.cleaned) == (["enough"], 1)


async def test_who_fails_when_it_is_woken_is_restarted(autojump_clock: MockClock) -> None:
    """The failure is the incarnation's, as if it had never slept."""
    sleeper = Sleeper(fails=True)
    async with open_supervisor(tree(sleeper)) as sup:
        await sup.wait_ready()
        first = await sup.ref("a").wait_ready()
        sleeper.contexts[0].wake()
        outcome = await sup.ref("a").wait_down(first)
        assert str(getattr(outcome, "error", None)) == "woken, and broke"
        assert await sup.ref("a").wait_ready() == 2
        sleeper.contexts[0].wake()  # of the former incarnation: nothing happens
        await trio.testing.wait_all_tasks_blocked()
        assert await sup.ref("a").wait_ready() == 2


async def test_woken_before_it_sleeps_it_goes_on_at_once(autojump_clock: MockClock) -> None:
    """No wake is lost, whenever it comes."""
    resumed = trio.Event()

    async def start(ctx: ActorContext) -> Hibernation:
        ctx.ready()
        ctx.wake()
        return ctx.hibernate(resume)

    async def resume(ctx: ActorContext) -> Hibernation:
        resumed.set()
        return ctx.hibernate(end)

    async def end(ctx: ActorContext) -> None:
        assert ctx.stop_reason == "the block was left"

    async with open_supervisor(SupervisorSpec(id="s", children=(ChildSpec(id="a", start=start),))) as sup:
        await resumed.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert sup.snapshot().children[0].epoch == 1


async def test_it_may_hibernate_again(autojump_clock: MockClock) -> None:
    """As often as it likes."""
    sleeper = Sleeper(again=True)
    async with open_supervisor(tree(sleeper)) as sup:
        await sup.wait_ready()
        for count in (1, 2):
            sleeper.contexts[0].wake()
            await trio.testing.wait_all_tasks_blocked()
            assert sleeper.resumed == [""] * count
        assert sup.snapshot().children[0].state is ChildState.READY


async def test_its_grace_ends_with_a_cancellation(autojump_clock: MockClock) -> None:
    """As for anybody who drains for too long."""
    sleeper = Sleeper()
    async with open_supervisor(tree(sleeper, stop_grace=0.25)) as sup:
        await sup.wait_ready()
        began = trio.current_time()
        await sup.stop_child("a")
        assert trio.current_time() - began == 0.25
    assert sleeper.cleaned == 1


async def test_who_hibernates_without_being_ready_runs_out_of_time(autojump_clock: MockClock) -> None:
    """It is told by a cancellation, and cleans up."""
    sleeper = Sleeper(ready=False)
    spec = SupervisorSpec(
        id="s", escalate=lambda error: True, children=(ChildSpec(id="a", start=sleeper.start, start_timeout=2.0),)
    )
    with pytest.raises(ChildFailed) as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert isinstance(root_cause(caught.value), StartTimeout)
    assert sleeper.cleaned == 1


async def test_a_tree_that_ends_at_once_leaves_nobody_asleep(autojump_clock: MockClock) -> None:
    """The second interrupt cancels whoever sleeps, too: what it left to be done is begun, and cut short."""
    sleeper = Sleeper()

    async def interrupted_twice() -> None:
        async with open_supervisor(tree(sleeper)) as sup:
            await sup.wait_ready()
            try:
                raise KeyboardInterrupt
            finally:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await interrupted_twice()
    assert sleeper.cleaned == 1
