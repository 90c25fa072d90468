"""Thousands of children: what one costs does not grow with the number of its siblings."""

from __future__ import annotations

import sys
import time

import pytest
import trio

from kombu_actors.supervisors import ChildSpec, RestartLimit, Strategy, Supervisor, SupervisorSpec, open_supervisor

from .actors import forever


def child(id: str) -> ChildSpec:
    return ChildSpec(id=id, start=forever, stop_grace=0)


async def cpu_until_ready(children: int, strategy: Strategy = Strategy.ONE_FOR_ONE) -> float:
    """Seconds of CPU until that many children of a specification, started one after the other, are all READY."""
    specs = tuple(child(str(number)) for number in range(children))
    began = time.process_time()
    async with open_supervisor(SupervisorSpec(id="s", strategy=strategy, children=specs), deadline=100) as sup:
        await sup.wait_ready()
        return time.process_time() - began


@pytest.mark.parametrize("strategy", Strategy)
async def test_a_thousand_children_are_ready_within_a_second(strategy: Strategy) -> None:
    """A step of the supervisor looks at the child it concerns, not at all of them."""
    assert await cpu_until_ready(1000, strategy) < 1


@pytest.mark.slow
async def test_ten_thousand_children_are_ready_within_twelve_seconds() -> None:
    """Ten times as many cost ten times as much, about; it was a thousand times."""
    assert await cpu_until_ready(10_000) < 12


async def test_a_whole_group_of_a_thousand_restarts_within_two_seconds() -> None:
    """Down one after the other, up one after the other."""
    specs = tuple(child(str(number)) for number in range(1000))
    spec = SupervisorSpec(id="s", strategy=Strategy.ONE_FOR_ALL, children=specs)
    async with open_supervisor(spec, deadline=100) as sup:
        await sup.wait_ready()
        began = time.process_time()
        await sup.restart_child("0")
        await sup.ref("999").wait_down(1)
        await sup.wait_ready()
        assert time.process_time() - began < 2


async def calls_per_turnover(sup: Supervisor) -> float:
    """Python calls that it takes to start, restart and remove one more child."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        for number in range(20):
            ref = await sup.start_child(child(f"x{number}"))
            await sup.restart_child(f"x{number}")
            await ref.wait_down(1)
            await ref.wait_ready()
            await sup.remove_child(f"x{number}")
    finally:
        sys.setprofile(None)
    return calls / 20


async def test_a_child_of_a_large_pool_costs_what_one_of_a_small_pool_does() -> None:
    """Counted in calls, which no busy machine changes."""
    async with open_supervisor(SupervisorSpec(id="s", limit=RestartLimit(max_restarts=None)), deadline=100) as sup:
        await sup.start_child(child("0"))
        small = await calls_per_turnover(sup)
        async with trio.open_nursery() as nursery:
            for number in range(1, 2000):
                nursery.start_soon(sup.start_child, child(str(number)))
        assert await calls_per_turnover(sup) < 1.2 * small
