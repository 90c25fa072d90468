"""Random supervision trees by the tens of thousands: ``python -m soak.driver --seeds 0-19999 --jobs 2``.

What one seed does, and which rules it may not break, is in ``tests/supervisors/driving.py``, and ``make test`` runs
two thousand of them.  Each job is a process, since a hang ends it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

BATCH = 500
"""Seeds that one process runs: some seconds."""
HANG = 300.0
"""Real seconds after which a process is no longer waited for; virtual hangs are found by the process itself."""


def batches(first: int, last: int) -> Iterator[tuple[int, int]]:
    """(first seed, how many)."""
    for start in range(first, last + 1, BATCH):
        yield start, min(BATCH, last + 1 - start)


def drive(first: int, count: int) -> tuple[list[str], int]:
    """Run seeds; what was broken, and how many checkpoints were passed."""
    command = [sys.executable, "-m", "tests.supervisors.driving", str(first), str(count), "-k"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    except subprocess.TimeoutExpired:
        return [f"seeds from {first}: not done within {HANG:g} s"], 0
    broken = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    if done.returncode and not broken:
        broken = [f"seeds from {first}: exit status {done.returncode}: {done.stderr[-2000:]}"]
    passed = re.search(r"([\d,]+) checkpoints", done.stdout)
    return broken, int(passed[1].replace(",", "")) if passed else 0


def main() -> int:
    """Run and report; 1 when a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-19999", metavar="FIRST-LAST")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    arguments = parser.parse_args()
    first, last = (int(number) for number in arguments.seeds.split("-"))
    broken: list[str] = []
    checkpoints = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for found, passed in pool.map(lambda batch: drive(*batch), batches(first, last)):
            for line in found:
                print(line, flush=True)
            broken += found
            checkpoints += passed
    print(f"driver: seeds {first}-{last}: {checkpoints:,} checkpoints, {len(broken)} programs broke a rule")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
