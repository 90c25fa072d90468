"""What a running tree shows: snapshots, event streams, logs."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    Backoff,
    ChildFailed,
    ChildSpec,
    ChildStartError,
    ChildState,
    Event,
    Restart,
    RestartLimit,
    RestartLimitExceeded,
    Strategy,
    SupervisorSpec,
    events,
    leaves,
    log_events,
    open_supervisor,
    root_cause,
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


class Measured(Event):
    """A kind of event that a program has made up."""

    seconds: float
    unit: str = "s"


def test_events_are_immutable_values() -> None:
    """By name, with defaults and those of what they inherit; equal by kind and content; mistakes say what is wrong."""
    place: dict[str, Any] = {"path": "a", "at": 1.0, "wall": 2.0}
    one, same, other = Measured(**place, seconds=3.0), Measured(**place, seconds=3.0), Measured(**place, seconds=4.0)
    assert (one.seconds, one.unit, one.epoch) == (3.0, "s", 0)
    assert (one == same, one == other, len({one, same, other})) == (True, False, 2)
    assert events.ChildStarting(**place) != events.ChildReady(**place)
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.but(seconds=4.0) == other
    assert repr(other).startswith("Measured(path='a', at=1.0,")
    assert repr(other).endswith("seconds=4.0, unit='s')")
    with pytest.raises(AttributeError, match="immutable"):
        one.seconds = 5.0  # type: ignore[misc]  # what the test is about
    with pytest.raises(AttributeError, match="immutable"):
        del one.seconds
    with pytest.raises(TypeError, match=r"Measured takes path, .*: seconds is missing, it has no minutes"):
        Measured(**place, minutes=1)  # type: ignore[call-arg]  # likewise


def test_no_kind_of_event_is_made_by_attrs() -> None:
    """It would take its own annotations only, and none of those that it inherits."""
    import kombu_actors.broker
    import kombu_actors.fleet.events  # noqa: F401  # both have kinds of their own

    kinds = list(Event.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert len(kinds) > 25
    assert [kind for kind in kinds if attrs.has(kind)] == []


async def test_a_child_reports_events_of_its_own(autojump_clock: MockClock) -> None:
    """The supervisor adds where and when."""
    diary = Diary()

    async def measuring(ctx: ActorContext) -> None:
        ctx.ready()
        ctx.report(Measured, seconds=0.5)
        await ctx.stopping.wait()

    child = ChildSpec(id="a", start=measuring)
    async with open_supervisor(SupervisorSpec(id="s", children=(child,)), listener=diary.events.append) as sup:
        await sup.wait_ready()
    (told,) = diary.of(Measured)
    assert (told.path, told.epoch, told.seconds) == ("a", 1, 0.5)


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


def crash() -> None:
    raise KeyError("secret-key")


async def crashing_once(ctx: ActorContext) -> None:
    ctx.ready()
    if ctx.epoch == 1:
        crash()
    await ctx.stopping.wait()


def failures(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, bool]]:
    """Level, text and whether there is a traceback, of each record."""
    return [(record.levelname, record.getMessage(), bool(record.exc_info)) for record in caplog.records]


async def test_a_crash_is_logged_by_default_with_its_traceback_and_the_decision(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """Once; nobody had to ask for it."""
    spec = SupervisorSpec(id="app", children=(ChildSpec(id="x", start=crashing_once),))
    async with open_supervisor(spec) as sup:
        await sup.ref("x").wait_down(1)
        await sup.wait_ready()
    text = "'x' failed with KeyError: 'secret-key'; supervisor 'app' restarts it at once, 4 restarts left"
    assert failures(caplog) == [("ERROR", text, True)]
    assert "in crash" in caplog.text
    assert "_incarnation.py" not in caplog.text


async def test_the_supervisor_that_decides_logs_a_failure_and_those_above_tell_their_own_decision(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """One traceback, however far the failure climbs."""
    inner = SupervisorSpec(
        id="inner", children=(ChildSpec(id="x", start=crashing_once),), limit=RestartLimit(max_restarts=0)
    )
    async with open_supervisor(SupervisorSpec(id="app", children=(inner,))) as sup:
        await sup.ref("inner").wait_down(1)
    (first, second) = failures(caplog)
    assert first == (
        "ERROR",
        "'inner/x' failed with KeyError: 'secret-key'; its budget of 0 restarts within 60 s is spent, "
        "supervisor 'inner' stops its children and fails",
        True,
    )
    assert second[1].startswith("'inner' failed with RestartLimitExceeded: supervisor 'inner' has used up its budget")
    assert second[1].endswith("; supervisor 'app' restarts it at once, 4 restarts left")
    assert not second[2]


async def test_what_is_expected_is_an_info_in_one_line(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """Outages of others are no crashes; what else comes with them is."""
    error = ExceptionGroup("both", [OSError("broker away"), KeyError("bug")])
    children = (
        ChildSpec(id="a", start=failing_times(1, OSError("broker away"))),
        ChildSpec(id="b", start=failing_times(1, error)),
    )
    caplog.set_level(logging.INFO, "kombu_actors.supervisors")
    spec = SupervisorSpec(id="app", strategy=Strategy.ONE_FOR_ALL, children=children)
    async with open_supervisor(spec, expected=lambda error: isinstance(error, OSError)) as sup:
        await sup.wait_ready()
    assert failures(caplog) == [
        (
            "INFO",
            "'a' failed with OSError: broker away; supervisor 'app' restarts it at once, 4 restarts left, with b",
            False,
        ),
        (
            "ERROR",
            "'b' failed with OSError: broker away; supervisor 'app' restarts it at once, 3 restarts left, with a",
            True,
        ),
    ]
    assert "KeyError: 'bug'" in caplog.text


async def test_a_failure_that_a_caller_is_told_is_not_logged(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """``start_child`` raises it; a TEMPORARY child's and one during its stop nobody else would tell."""

    async def stumbling(ctx: ActorContext) -> None:
        ctx.ready()
        await ctx.stopping.wait()
        crash()

    async def job(ctx: ActorContext) -> None:
        ctx.ready()
        crash()

    async with open_supervisor(SupervisorSpec(id="app")) as sup:
        with pytest.raises(ChildStartError):
            await sup.start_child(ChildSpec(id="x", start=broken(OSError("x"))))
        assert failures(caplog) == []
        await sup.start_child(ChildSpec(id="job", start=job, restart=Restart.TEMPORARY))
        await sup.start_child(ChildSpec(id="y", start=stumbling))
    assert [text.partition("; ")[2] for _, text, _ in failures(caplog)] == [
        "it is TEMPORARY and not restarted",
        "it was being stopped",
    ]


async def test_an_exception_group_keeps_all_its_leaves(autojump_clock: MockClock) -> None:
    """In the outcome, in the history, and in the cause of what is raised, the decisive one first."""
    parts = [ValueError("a"), PermissionError("403"), KeyError("b")]
    spec = SupervisorSpec(
        id="app",
        children=(ChildSpec(id="x", start=broken(ExceptionGroup("three", parts))),),
        escalate=lambda error: isinstance(error, PermissionError),
    )
    with pytest.raises(ChildFailed, match=r"PermissionError: 403 \(and 2 more\)") as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert cause.exceptions == (parts[1], parts[0], parts[2])
    assert root_cause(caught.value) is parts[1]
    assert caught.value.history[-1].error is not None
    assert leaves(caught.value.history[-1].error) == cause.exceptions
