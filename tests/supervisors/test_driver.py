"""The shipped driver under random trees, failures, cancellations and interrupts; every run follows from its seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def drive(first: int, count: int) -> str:
    """Run seeds in a process of their own: interrupts are real signals, and a hang ends it."""
    command = [sys.executable, "-m", "tests.supervisors.driving", str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}\nto see it: {' '.join(command[1:3])} SEED 1 -v"
    return done.stdout


@pytest.mark.slow
def test_no_random_program_of_two_thousand_breaks_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    """No second incarnation, no lost stop, no actor that is cancelled unasked or outlives its tree, no hang."""
    told = drive(1, 2000)
    with capsys.disabled():
        print(f"\nrandom trees: {told}", end="")


def test_a_seed_replays() -> None:
    """The same number of checkpoints in all: else a failing seed would be worth nothing."""
    first, second = (drive(4000, 50).split(" s of CPU")[0].rsplit(",", 1)[0] for _ in range(2))
    assert first == second
