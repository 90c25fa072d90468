"""What a running tree shows: snapshots, event streams, logs."""

from __future__ import annotations

import json
import logging

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    Backoff,
    ChildSpec,
    ChildState,
    Event,
    RestartLimit,
    RestartLimitExceeded,
    SupervisorSpec,
    events,
    log_events,
    open_supervisor,
)

from .actors import Diary, broken, failing_times


async def test_a_snapshot_is_a_json_able_tree(autojump_clock: MockClock) -> None:
    """State, epoch, restarts, budget left, next attempt, last failure; down to the leaves."""
    diary = Diary()
    flaky = ChildSpec(id="x", start=broken(OSError("no")), mailbox=3)
    nested = SupervisorSpec(id="n", children=(flaky,), backoff=Backoff(first=0, base=8, jitter=0))
    async with open_supervisor(SupervisorSpec(id="s", children=(diary.child("a"), nested))) as sup:
        await trio.sleep(3)
        tree = sup.snapshot()
        json.dumps(tree.to_dict())
        assert (tree.id, tree.path, tree.state) == ("s", "", ChildState.STARTING)
        x = tree.find("n/x")
        assert x is not None
        assert (x.state, x.epoch, x.restarts, x.next_attempt_in) == (ChildState.BACKING_OFF, 2, 1, 5.0)
        assert x.last_failure == {"type": "OSError", "text": "no"}
        n = tree.find("n")
        assert n is not None
        assert (n.state, n.budget_left, n.strategy) == (ChildState.STARTING, 3, "one_for_one")
        assert tree.find("n/nobody") is None


async def test_degraded_is_visible_and_harmless(autojump_clock: MockClock) -> None:
    """The child serves on; ``ready`` takes it back."""
    diary = Diary()

    async def limping(ctx: ActorContext) -> None:
        ctx.ready()
        await trio.sleep(1)
        ctx.degraded("no deliveries for 60 s")
        await trio.sleep(1)
        ctx.ready()
        await ctx.stopping.wait()

    spec = SupervisorSpec(id="s", children=(ChildSpec(id="a", start=limping),))
    async with open_supervisor(spec, listener=diary.events.append) as sup:
        await trio.sleep(1.5)
        view = sup.snapshot().children[0]
        assert (view.state, view.degraded) == (ChildState.DEGRADED, "no deliveries for 60 s")
        await sup.wait_ready("a")
        await trio.sleep(1)
        assert sup.snapshot().children[0].state is ChildState.READY
    assert [event.why for event in diary.of(events.ChildDegraded)] == ["no deliveries for 60 s"]


async def test_a_slow_reader_loses_the_oldest_events_and_knows_it(autojump_clock: MockClock) -> None:
    """The stream is bounded and never slows the supervisor down; it ends when the tree has."""
    diary = Diary()
    seen: list[Event] = []
    async with trio.open_nursery() as nursery:
        async with (
            open_supervisor(SupervisorSpec(id="s", children=(diary.child("a"),))) as sup,
            sup.events(2) as stream,
        ):
            for _ in range(3):
                await sup.wait_ready()
                await sup.restart_child("a")
            await sup.wait_ready()
            await sup.stop()
            async for event in stream:
                seen.append(event)
            lost = stream.lost
        nursery.cancel_scope.cancel()
    assert len(seen) == 2
    assert lost > 5
    assert isinstance(seen[-1], events.SupervisorStopped)


async def test_events_carry_where_when_and_what_is_left(autojump_clock: MockClock) -> None:
    """And turn into JSON."""
    diary = Diary()
    child = ChildSpec(id="a", start=failing_times(2, OSError("no")), stop_grace=0)
    async with open_supervisor(SupervisorSpec(id="s", children=(child,)), listener=diary.events.append) as sup:
        await sup.wait_ready()
    assert diary.kinds("a")[:7] == [
        "ChildStarting",
        "ChildFailed",
        "ChildBackingOff",
        "ChildStarting",
        "ChildFailed",
        "ChildBackingOff",
        "ChildStarting",
    ]
    second = diary.of(events.ChildFailed)[1]
    assert (second.epoch, second.attempt, second.budget_left) == (2, 2, 3)
    record = json.loads(json.dumps(second.to_dict()))
    assert record["event"] == "child_failed"
    assert record["error"] == {"type": "OSError", "text": "no"}
    assert record["wall"] > 1e9
    assert all(json.dumps(event.to_dict()) for event in diary.events)


async def test_logs_rise_from_warning_to_error_to_critical(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A blip stays out of the pagers."""
    logger = logging.getLogger("test.supervision")
    caplog.set_level(logging.DEBUG, logger.name)
    child = ChildSpec(id="a", start=broken(OSError("no")))
    spec = SupervisorSpec(id="s", children=(child,), limit=RestartLimit(max_restarts=3))
    with pytest.raises(RestartLimitExceeded):
        async with open_supervisor(spec, listener=log_events(logger)):
            await trio.sleep_forever()
    failed = [record.levelname for record in caplog.records if "child_failed" in record.getMessage()]
    assert failed == ["WARNING", "WARNING", "ERROR", "ERROR"]
    assert [record.levelname for record in caplog.records if " escalated " in record.getMessage()] == ["CRITICAL"]


async def test_a_listener_that_raises_is_reported_and_removed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer can't harm what it observes, and its bug is not hidden."""

    def listener(event: Event) -> None:
        raise ZeroDivisionError

    diary = Diary()
    spec = SupervisorSpec(id="s", children=(diary.child("a"),))
    async with open_supervisor(spec, listener=listener) as sup:
        await sup.wait_ready()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "ZeroDivisionError" in caplog.text
