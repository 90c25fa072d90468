"""``python -m benchmarks [case ...] [--quick] [--rounds N]``; see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from .cases import CASES, Broker, Case, Contender
from .celery_cases import CELERY_CASES
from .meter import Sample
from .redis_cases import REDIS_CASES
from .redis_yard import open_redis_yard
from .report import circumstances, table
from .yard import RunFailed, open_no_yard, open_yard

ROUNDS = 5
"""Odd, so that the median is a run that took place."""
QUICK_ROUNDS = 3
CASE_SECONDS = 30.0
"""After that a case starts no further round once it has three: a busy machine must not take ten minutes."""
QUICK_SHARE = 5
"""``--quick`` sends a fifth of the messages: enough to see a factor, too few for a percentage."""
WARM_UP_SHARE = 10
"""A tenth of the messages goes ahead unmeasured: caches, allocator, the broker's flow."""


ALL_CASES = (*CASES, *REDIS_CASES, *CELERY_CASES)


class Yard(Protocol):
    """Where the runs of some cases take place."""

    def run(self, case: Case, contender: Contender, messages: int, warm_up: int, size: int) -> Sample:
        """One run; raises ``RunFailed``."""


YARDS: dict[Broker, Callable[[], AbstractContextManager[tuple[Yard, str]]]] = {
    Broker.RABBITMQ: open_yard,
    Broker.REDIS: open_redis_yard,
    Broker.NONE: open_no_yard,
}


def main() -> int:
    """Run the cases asked for; 1 when a contender failed at its task, whatever the figures say."""
    options = _options()
    default = [case.name for case in ALL_CASES if not (options.quick and case.lengthy)]
    cases = [case for case in ALL_CASES if case.name in (options.cases or default)]
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    began = time.monotonic()
    failed = False
    with ExitStack() as stack:
        yards, versions = _open_yards(stack, cases)
        print(circumstances(versions), flush=True)
        for case in cases:
            messages = case.messages // QUICK_SHARE if options.quick else case.messages
            samples, failures = _interleaved(yards[case.broker], case, messages, rounds)
            print(f"\n{table(case, samples)}", flush=True)
            for name, reason in failures.items():
                failed = True
                print(f"  {name} FAILED: {reason}", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")
    return int(failed)


def _open_yards(stack: ExitStack, cases: Sequence[Case]) -> tuple[dict[Broker, Yard], str]:
    """Those that the cases need, and their brokers' versions."""
    wanted = {case.broker for case in cases}
    opened = {broker: stack.enter_context(open_it()) for broker, open_it in YARDS.items() if broker in wanted}
    return {broker: yard for broker, (yard, _) in opened.items()}, ", ".join(version for _, version in opened.values())


def _interleaved(
    yard: Yard, case: Case, messages: int, rounds: int
) -> tuple[dict[str, list[Sample]], dict[str, RunFailed]]:
    """A B A B ...: what else the machine does falls on both alike.  Who fails once runs no more."""
    runs = [(contender, size) for size in case.sizes for contender in case.contenders]
    samples: dict[str, list[Sample]] = {case.row(*run): [] for run in runs}
    failures: dict[str, RunFailed] = {}
    began = time.monotonic()
    for done in range(rounds):
        if done >= QUICK_ROUNDS and time.monotonic() - began > CASE_SECONDS:
            break
        for contender, size in runs:
            row = case.row(contender, size)
            if row in failures:
                continue
            try:
                samples[row].append(yard.run(case, contender, messages, messages // WARM_UP_SHARE, size))
            except RunFailed as error:
                failures[row] = error
    return samples, failures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Client CPU per message, beside others.")
    parser.add_argument("cases", nargs="*", choices=[[], *(case.name for case in ALL_CASES)], help="default: all")
    parser.add_argument("--quick", action="store_true", help="fewer messages and rounds, quick cases only")
    parser.add_argument("--rounds", type=int, help=f"per case (default {ROUNDS}; --quick: {QUICK_ROUNDS})")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
