"""Specifications are judged whole, before anything starts, in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_actors.supervisors import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    LinearBackoff,
    Restart,
    RestartLimit,
    SpecError,
    SupervisorSpec,
    open_supervisor,
)

from .actors import forever


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


async def test_a_dynamic_child_is_judged_by_the_same_rules() -> None:
    """Before anything starts."""
    async with open_supervisor(SupervisorSpec(id="s")) as sup:
        with pytest.raises(SpecError, match="its end would mean nothing"):
            await sup.start_child(child(significant=True, restart=Restart.TEMPORARY))


def test_linear_delays_grow_evenly() -> None:
    """kombu's interval_start, interval_step, interval_max."""
    backoff = LinearBackoff(start=0.0, step=0.2, maximum=0.5)
    assert [backoff.delay(streak, 0.9) for streak in range(4)] == [0.0, 0.2, 0.4, 0.5]
