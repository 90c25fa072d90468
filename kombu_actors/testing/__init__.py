"""For the tests of programs that have a fleet: run it on a broker in memory, under a clock that jumps, with faults.

    from kombu_actors.testing import Simulation, simulate

    def test_no_order_is_lost():
        async def scenario(sim: Simulation) -> None:
            await sim.publish("orders", {"id": "1", "customer": "c"})
            await sim.wait_idle()
            assert sim.handled("orders") or sim.dead_lettered("orders")

        simulate(shop.fleet, scenario, seeds=range(200), faults=5)

``docs/fleet.md`` has more.
"""

from __future__ import annotations

from .faults import Fault, FaultKind, FaultPlan, InjectedCrash
from .records import Attempt, Fate, Violation
from .running import simulate
from .simulation import Simulation, open_simulation

__all__ = [
    "Attempt",
    "Fate",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "InjectedCrash",
    "Simulation",
    "Violation",
    "open_simulation",
    "simulate",
]
