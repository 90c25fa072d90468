"""Runs a scenario under seeds: the clock jumps, the schedule and all random draws come from the seed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import trio
import trio.testing

from ..fleet import Fleet
from ..utils.dice import seeded
from .faults import FaultKind, FaultPlan
from .simulation import Simulation, open_simulation

__all__ = ["simulate"]

Scenario = Callable[[Simulation], Awaitable[object]]
TRACE_TOLD = 40
"""Lines of the trace that a failure tells: the end is where it went wrong."""


def simulate(
    fleet: Fleet,
    scenario: Scenario,
    *,
    seeds: Iterable[int] = (0,),
    faults: int | FaultPlan = 0,
    within: float = 10.0,
    kinds: Sequence[FaultKind] = tuple(FaultKind),
    queues: Collection[str] | None = None,
) -> list[Sequence[str]]:
    """Run ``await scenario(simulation)`` once for each seed, each on a broker of its own; return the traces.

    A seed decides the order in which tasks run, jitter, and the faults: the same seed has the same trace, as long as
    the handlers are as deterministic.  Afterwards nothing may be lost (``Simulation.check``).

    Args:
        faults: how many each seed draws, of ``kinds`` and ``within`` seconds; or a plan, the same for all seeds.
        queues: only the consumers of these.

    Raises:
        whatever the scenario raises, or ``Violation``; its notes have the seed, the faults and the end of the trace.
    """
    traces = []
    for seed in seeds:
        plan = faults if isinstance(faults, FaultPlan) else FaultPlan.drawn(seed, faults, within=within, kinds=kinds)
        traces.append(_run_seed(fleet, scenario, seed, plan, queues))
    return traces


def _run_seed(
    fleet: Fleet, scenario: Scenario, seed: int, plan: FaultPlan, queues: Collection[str] | None
) -> Sequence[str]:
    trace: list[Sequence[str]] = []

    async def main() -> None:
        async with open_simulation(fleet, faults=plan, queues=queues) as sim:
            trace.append(sim.trace)
            await scenario(sim)

    # trio shuffles the tasks that are ready; its own tests draw that from a seed, too, by the same names.
    core = vars(trio._core._run)
    before = core["_ALLOW_DETERMINISTIC_SCHEDULING"], core["_r"].getstate()
    core["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    core["_r"].seed(seed)
    try:
        with seeded(seed):
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseException as error:
        error.add_note(f"seed {seed}: replay it with simulate(..., seeds=[{seed}]); faults: {plan}")
        for line in (trace[0] if trace else ())[-TRACE_TOLD:]:
            error.add_note(f"  {line}")
        raise
    finally:
        core["_ALLOW_DETERMINISTIC_SCHEDULING"] = before[0]
        core["_r"].setstate(before[1])
    return trace[0]
