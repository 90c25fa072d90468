"""What ``kombu_actors.testing`` promises to the tests of programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from kombu_actors.fleet import Fleet, Retry
from kombu_actors.testing import Fate, Fault, FaultKind, FaultPlan, Simulation, Violation, open_simulation, simulate

from .shop import fleet, scenario


def test_the_same_seed_has_the_same_trace() -> None:
    """So that a failure can be looked at again, and shrinks when faults are taken from its plan."""
    once = simulate(fleet, scenario, seeds=range(5), faults=6)
    again = simulate(fleet, scenario, seeds=range(5), faults=6)
    assert once == again
    assert len({tuple(trace) for trace in once}) == 5


def test_hours_take_no_time_and_attempts_are_told() -> None:
    """Retries come after their delays on the simulation's clock."""
    slow = Fleet("amqp://localhost", retry=Retry(delays=(3600,)))

    @slow.consumer("work")
    async def work(text: str) -> None:
        raise OSError(text)

    async def scenario(sim: Simulation) -> None:
        id = await sim.publish("work", "no")
        await sim.wait_idle()
        first, second = sim.attempts("work")
        assert (first.message_id, first.number, first.fate, first.error) == (id, 1, Fate.FAILED, "OSError")
        assert second.number == 2
        assert second.began - first.ended == pytest.approx(3600, abs=0.1)
        (dead,) = await sim.dead_letters("work")
        assert (dead.id, dead.attempts) == (id, 2)
        assert sim.dead_lettered("work") == [id]

    simulate(slow, scenario)


def test_what_handlers_publish_can_be_taken() -> None:
    """From a queue that nobody of the fleet consumes from."""
    relay = Fleet("amqp://localhost")

    @relay.consumer("in")
    async def forward(number: int) -> int:
        return number + 1

    async def scenario(sim: Simulation) -> None:
        assert await sim.request("in", 1) == 2
        await sim.client.publish("in", 5, reply_to="in")
        await sim.wait_idle()

    simulate(relay, scenario)


@pytest.mark.parametrize("kind", FaultKind)
def test_each_fault_strikes_and_passes(kind: FaultKind) -> None:
    """In the midst of a handler's call, and in a pause."""
    seconds = 1.0 if kind in (FaultKind.REFUSE, FaultKind.BLOCK, FaultKind.DELAY) else 0.0
    plan = FaultPlan(
        (Fault(kind=kind, call=2, steps=5, seconds=seconds), Fault(kind=kind, at=0.5, seconds=seconds, which=0.9))
    )
    (trace,) = simulate(fleet, scenario, faults=plan)
    assert sum("FAULT" in line for line in trace) == 2


def test_a_failure_tells_how_to_replay_it() -> None:
    """The exception is the scenario's own; its notes have the seed, the faults, and what happened."""

    async def wrong(sim: Simulation) -> None:
        await sim.publish("thumbs", "a.png")
        await sim.wait_idle()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong") as found:
        simulate(fleet, wrong, seeds=[17], faults=FaultPlan((Fault(kind=FaultKind.BLOCK, at=0.25, seconds=0.5),)))
    notes = found.value.__notes__
    assert notes[0] == "seed 17: replay it with simulate(..., seeds=[17]); faults: block for 0.5 s at 0.25 s"
    assert any("thumbs: m1 attempt 1 handled" in note for note in notes)


def test_what_goes_round_in_circles_is_not_waited_for() -> None:
    """A handler that snoozes for ever."""

    async def stuck(sim: Simulation) -> None:
        await sim.publish("thumbs", "later")
        await sim.wait_idle(timeout=60)

    with pytest.raises(Violation, match=r"not idle after 60 s: 1 wait in 'ka.delay.5000'"):
        simulate(fleet, stuck)


async def test_in_a_trio_test_of_ones_own(autojump_clock: trio.testing.MockClock) -> None:
    """Without ``simulate``: under pytest-trio's clock, with faults by hand."""
    async with open_simulation(fleet, queues=["orders"]) as sim:
        await sim.publish("orders", 3)
        await sim.strike(Fault(kind=FaultKind.KILL_FLEET))
        await sim.wait_idle()
        assert [receipt.payload for receipt in await sim.take("receipts")] == [3, 3, 3]
        assert sim.snapshot().tree.state.value == "ready"
    assert [certificate.cold for certificate in sim.certificates] == [True, False]


def test_the_fixture_takes_its_seeds_from_the_command_line(tmp_path: Path) -> None:
    """``--fleet-seed`` replays one; the plugin is there wherever the package is installed."""
    (tmp_path / "test_it.py").write_text(
        """
from kombu_actors.fleet import Fleet

fleet = Fleet("amqp://localhost")

@fleet.consumer("work")
async def work(number: int) -> None: ...

def test_it(simulate):
    async def scenario(sim):
        await sim.publish("work", 1)
        await sim.wait_idle()

    traces = simulate(fleet, scenario, seeds=range(3))
    assert len(traces) == 1
"""
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--fleet-seed", "5", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 passed" in done.stdout, done.stdout
