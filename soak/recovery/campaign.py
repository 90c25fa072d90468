"""Many seeds, in several processes with a server each; what failed is printed so that it can be replayed."""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from multiprocessing.util import Finalize

from .driver import RECOVERY, Outcome, run
from .plan import plan
from .realms import TRAITS, YARDS, Yard
from .shrink import shrink
from .steps import Step

__all__ = ["main", "run_seed"]

SEEDS = "0-299"
JOBS = {"memory": 6, "redis": 6, "amqp": 3}
"""Processes, each with its server: programs mostly wait."""

_names = itertools.count()


def run_seed(yard: Yard, transport: str, seed: int) -> Outcome:
    """One seed's program, in an empty place."""
    return run_steps(yard, plan(seed, TRAITS[transport]))


def run_steps(yard: Yard, steps: Sequence[Step], within: float = RECOVERY) -> Outcome:
    """One program, in an empty place."""
    with yard.open_realm(f"program-{next(_names)}") as realm:
        return run(realm, steps, within=within)


def script(steps: Sequence[Step]) -> str:
    """The steps, numbered, as people read them."""
    return "\n".join(f"  {number:3d}. {step}" for number, step in enumerate(steps, 1))


def main() -> int:
    """1 when a seed failed."""
    options = _options()
    logging.disable(logging.CRITICAL)  # errors are what is provoked here
    reports = [_run_transport(transport, options) for transport in options.transport or YARDS]
    print("; ".join(text for text, _ in reports))
    return int(any(failed for _, failed in reports))


def _run_transport(transport: str, options: argparse.Namespace) -> tuple[str, int]:
    began = time.monotonic()
    faults, slowest = 0, 0.0
    failed: dict[int, str] = {}
    for seed, outcome in _outcomes(transport, options.seeds, options.jobs or JOBS[transport]):
        faults += outcome.faults
        slowest = max((slowest, *outcome.recoveries))
        if options.verbose:
            print(f"{transport} seed {seed}: {outcome.failure or 'ok'} ({outcome.seconds:.2f} s)", flush=True)
        if outcome.failure is not None:
            failed[seed] = outcome.kind or ""
            _tell(transport, seed, outcome, brief=len(failed) > options.tell)
    if options.shrink and failed:
        _shrink(transport, *next(iter(failed.items())))
    seconds = time.monotonic() - began
    which = f" {sorted(failed)}" if failed else ""
    return (
        f"{transport} {len(options.seeds)} seeds, {faults} faults, {len(failed)} failed{which},"
        f" slowest check {slowest:.2f} s, {seconds:.0f} s",
        len(failed),
    )


def _tell(transport: str, seed: int, outcome: Outcome, *, brief: bool) -> None:
    print(f"{transport} seed {seed} FAILED: {outcome.failure}", flush=True)
    if not brief:
        print(f"  replay: python -m soak.recovery --transport {transport} --seeds {seed}")
        print(script(plan(seed, TRAITS[transport])), flush=True)


def _shrink(transport: str, seed: int, kind: str) -> None:
    within = RECOVERY if kind == "deaf" else RECOVERY / 4  # what is there in spite of us does not go by itself
    with YARDS[transport]() as yard:
        shorter = shrink(plan(seed, TRAITS[transport]), kind, lambda steps: run_steps(yard, steps, within).kind)
        failure = run_steps(yard, shorter).failure
    print(f"{transport} seed {seed}, shortened: {failure}\n{script(shorter)}", flush=True)


def _outcomes(transport: str, seeds: Sequence[int], jobs: int) -> Iterator[tuple[int, Outcome]]:
    context = multiprocessing.get_context("spawn")  # servers are started from a main thread: each process has its own
    with ProcessPoolExecutor(
        min(jobs, len(seeds)), mp_context=context, initializer=_open_yard, initargs=(transport,)
    ) as pool:
        running = {pool.submit(_run_in_yard, transport, seed): seed for seed in seeds}
        for future in as_completed(running):
            yield running[future], future.result()


_yard: list[Yard] = []
"""The yard of this process."""


def _open_yard(transport: str) -> None:
    logging.disable(logging.CRITICAL)
    stack = ExitStack()
    _yard.append(stack.enter_context(YARDS[transport]()))
    Finalize(None, stack.close, exitpriority=1)


def _run_in_yard(transport: str, seed: int) -> Outcome:
    return run_seed(_yard[0], transport, seed)


def _seeds(text: str) -> list[int]:
    """``7``, ``0-299`` or ``3,5,20-29``."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak.recovery", description=__doc__)
    parser.add_argument("--transport", action="append", choices=list(YARDS), help="default: all; may be repeated")
    parser.add_argument("--seeds", type=_seeds, default=_seeds(SEEDS), help=f"such as 7 or 0-99 (default {SEEDS})")
    parser.add_argument("--jobs", type=int, help=f"processes, each with its server (default {JOBS})")
    parser.add_argument("--tell", type=int, default=3, help="of how many failures the programs are printed (3)")
    parser.add_argument("--shrink", action="store_true", help="look for a shorter program that fails like the first")
    parser.add_argument("--verbose", action="store_true", help="print each seed's outcome")
    return parser.parse_args()
