"""What the walks over a supervisor's kernel begin with: its rules and children."""

from __future__ import annotations

from kombu_actors.supervisors import AutoShutdown, Backoff, OnLimit, Restart, RestartLimit, Strategy
from kombu_actors.supervisors._kernel import initial, step
from kombu_actors.supervisors._records import Child, Rules

from .exploration import Count, everything, explore


def rules(
    strategy: Strategy,
    budget: int,
    on_limit: OnLimit = OnLimit.ESCALATE,
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
) -> Rules:
    limit = RestartLimit(max_restarts=budget, on_limit=on_limit)
    return Rules(strategy, limit, Backoff(jitter=0.0), auto_shutdown)


def siblings(restarts: tuple[Restart, ...], *significant: str) -> tuple[Child, ...]:
    return tuple(Child(id, restart, id in significant) for id, restart in zip("abc", restarts, strict=False))


def two_static_and_a_dynamic_child(strategy: Strategy) -> Count:
    """The largest walk: every event there is for two static children and an added one."""
    added = Child("d", Restart.TRANSIENT, static=False, trial=True)
    state = initial(rules(strategy, 1), siblings((Restart.PERMANENT, Restart.TRANSIENT)))
    return explore(state, step, everything(added), check_stale=True)
