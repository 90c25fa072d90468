"""Specifications are judged whole, before anything starts, in sentences."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kombu_actors.supervisors import (
    ActorContext,
    AutoShutdown,
    Backoff,
    ChildFailed,
    ChildSpec,
    LinearBackoff,
    Restart,
    RestartLimit,
    RestartLimitExceeded,
    SpecError,
    StartMistake,
    SupervisorSpec,
    events,
    open_supervisor,
)

from .actors import Diary, forever


def child(**options: Any) -> ChildSpec:
    return ChildSpec(**{"id": "a", "start": forever, **options})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: child(id=""), "non-empty string"),
        (lambda: child(id="a/b"), "without '/'"),
        (lambda: child(start=7), "start must be an async function"),
        (lambda: child(stop_grace=-1), "stop_grace must be at least 0 seconds, not -1"),
        (lambda: child(start_timeout=0), "start_timeout must be more than 0"),
        (lambda: child(mailbox=0), "capacity of at least 1"),
        (lambda: child(restart="permanent"), "restart must be a Restart"),
        (lambda: child(significant=True), "significant and PERMANENT"),
        (lambda: RestartLimit(max_restarts=-1), "at least 0, not -1"),
        (lambda: RestartLimit(within=0), "within must be more than 0"),
        (lambda: Backoff(base=float("nan")), "base must be a number of seconds"),
        (lambda: Backoff(jitter=1.5), "within 0 and 1"),
        (lambda: Backoff(factor=0.5), "delays would shrink"),
        (lambda: LinearBackoff(start=-1, step=1, maximum=3), "start must be at least 0"),
        (lambda: SupervisorSpec(id="s", children=(child(), child())), "two children named 'a'"),
        (lambda: SupervisorSpec(id="s", children=child()), "children must be a tuple of specs, or a function"),  # type: ignore[arg-type]
        (lambda: SupervisorSpec(id="s", backoff=0.5), "backoff must be a Backoff, a LinearBackoff"),  # type: ignore[arg-type]
        (lambda: SupervisorSpec(id="s", escalate=OSError("x")), "escalate must be a function or None"),  # type: ignore[arg-type]
        (lambda: child(limit=3), "limit must be a RestartLimit, not 3"),
        (lambda: child(backoff=3), "backoff must be a Backoff"),
        (lambda: child(restart=Restart.TEMPORARY, backoff=Backoff()), "TEMPORARY and never restarted"),
        (lambda: child(on_exit=1), "on_exit must be a function or None"),
        (lambda: SupervisorSpec(id="s", children=("a",)), "must be a ChildSpec or SupervisorSpec"),  # type: ignore[arg-type]
        (
            lambda: SupervisorSpec(id="s", children=(child(significant=True, restart=Restart.TRANSIENT),)),
            "auto_shutdown=NEVER, so its end would mean nothing",
        ),
        (
            lambda: SupervisorSpec(id="s", significant=True, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT),
            "significant and PERMANENT",
        ),
    ],
)
def test_a_forbidden_specification_says_what_is_wrong(make: Any, sentence: str) -> None:
    """Every error names the culprit and the cure."""
    with pytest.raises(SpecError, match=sentence):
        make()


@pytest.mark.parametrize("root", [child(), None])
async def test_only_a_supervisor_can_be_the_root(root: Any) -> None:
    """Said before anything is opened."""
    with pytest.raises(SpecError, match="open_supervisor takes a SupervisorSpec"):
        async with open_supervisor(root):
            pass


def synchronous(ctx: ActorContext) -> None:
    ctx.ready()


async def without_argument() -> None:
    pass


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (synchronous, "start of child 'a' must be an async function .*; calling it returned None"),
        (without_argument, "start of child 'a' is called with the context, its only argument"),
    ],
)
async def test_a_start_that_is_no_actor_is_told_at_once(start: Any, sentence: str) -> None:
    """No restart cures it, so none is tried."""
    diary = Diary()
    with pytest.raises(ChildFailed, match=sentence) as caught:
        async with open_supervisor(
            SupervisorSpec(id="s", children=(child(start=start),)), listener=diary.events.append
        ):
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, StartMistake)
    assert len(diary.of(events.ChildStarting)) == 1


async def test_a_type_error_inside_an_actor_is_a_failure_like_any_other() -> None:
    """Only the call of ``start`` itself is judged."""

    def broken_factory(ctx: ActorContext) -> Any:
        return forever()  # type: ignore[call-arg]

    spec = SupervisorSpec(id="s", children=(child(start=broken_factory),), limit=RestartLimit(max_restarts=0))
    with pytest.raises(RestartLimitExceeded) as caught:
        async with open_supervisor(spec):
            await trio.sleep_forever()
    assert type(caught.value.__cause__) is TypeError


async def test_a_dynamic_child_is_judged_by_the_same_rules() -> None:
    """Before anything starts."""
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        with pytest.raises(SpecError, match="its end would mean nothing"):
            await sup.start_child(child(significant=True, restart=Restart.TEMPORARY))
        with pytest.raises(SpecError, match="must be a ChildSpec or SupervisorSpec"):
            await sup.start_child(forever)  # type: ignore[arg-type]  # the mistake


def test_arguments_without_their_names_are_answered_with_the_names() -> None:
    """By the class that was to be made."""
    with pytest.raises(TypeError, match="ChildSpec takes its arguments by name: id, start, restart"):
        ChildSpec("a", forever)  # type: ignore[call-arg]  # the mistake


def test_linear_delays_grow_evenly() -> None:
    """kombu's interval_start, interval_step, interval_max."""
    backoff = LinearBackoff(start=0.0, step=0.2, maximum=0.5)
    assert [backoff.delay(streak, 0.9) for streak in range(4)] == [0.0, 0.2, 0.4, 0.5]
