"""Interrupts in blocking calls: ``python -m soak.interrupts [--count N] [--seed S] [--transport T] [--kind K]``.

For each transport and each kind of call: first an interrupt at each point of it at which CPython may run a signal
handler, one after the other, then ``--count`` interrupts by a timer at random instants.  After each of the former, and
every 50 of the latter, everything must be usable and nothing left to nobody.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from soak._blocking_calls import BLOCKING_CALLS, BlockingCall
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.interrupts import Interrupted, at_each_point, interrupt

TRANSPORTS = ("memory", "amqp", "redis")
CHECKED_EVERY = 50
HUNG_AFTER = 30.0
"""Seconds without a call or an interrupt: more than any deadline that a call has here."""
HUNG = 3
"""Exit status of a process that hung."""


class Dice:
    """A timer that interrupts the main thread at random instants, while it is armed."""

    def __init__(self, seed: int, mean: float) -> None:
        self._random = random.Random(seed)
        self._mean = mean
        self.armed = False
        self.missed = False
        """Whether it struck while it was not armed."""
        signal.signal(signal.SIGALRM, self._strike)

    def roll(self) -> None:
        """Strike once, some time from now."""
        self.missed = False
        signal.setitimer(signal.ITIMER_REAL, self._random.expovariate(1 / self._mean) + 1e-6)

    def _strike(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            raise Interrupted
        self.missed = True


class Watch:
    """Ends the process, with all stacks, when there is no progress."""

    def __init__(self) -> None:
        self.seen = time.monotonic()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while time.monotonic() - self.seen < HUNG_AFTER:
            time.sleep(1)
        print("HUNG", flush=True)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(HUNG)


def interrupt_until_it_strikes(call: BlockingCall, dice: Dice, watch: Watch) -> None:
    """Make the call again and again until the dice end one."""
    call.between()
    dice.roll()
    try:
        while True:
            watch.seen = time.monotonic()
            dice.armed = True
            call.act()
            swallowed, dice.armed = not dice.armed, False  # by a finalizer, as the interpreter does
            call.between()
            if swallowed or dice.missed:
                dice.roll()
    except Interrupted:
        return
    finally:
        dice.armed = False


def by_dice(kind: str, url: str, count: int, seed: int, watch: Watch) -> Counter[str]:
    """``count`` interrupts at random instants."""
    found: Counter[str] = Counter()
    call = BLOCKING_CALLS[kind](url)
    started = time.perf_counter()
    call.act()
    call.check()
    dice = Dice(seed, mean=min(max((time.perf_counter() - started) / 2, 0.0003), 0.004))
    while found["interrupts"] < count:
        interrupt_until_it_strikes(call, dice, watch)
        found["interrupts"] += 1
        if found["interrupts"] % CHECKED_EVERY == 0 and not usable(call, f"{found['interrupts']} interrupts", watch):
            found["broken afterwards"] += 1
            call = BLOCKING_CALLS[kind](url)
    call.close()
    return found


def at_points(kind: str, url: str, watch: Watch) -> Counter[str]:
    """An interrupt at each point."""
    found: Counter[str] = Counter()
    call = BLOCKING_CALLS[kind](url)
    call.check()

    def check(where: str) -> None:
        found["points"] += 1
        if not usable(call, where, watch):
            found["broken afterwards"] += 1

    at_each_point(call.act, interrupt, check)
    call.close()
    return found


def usable(call: BlockingCall, after: str, watch: Watch) -> bool:
    """Whether everything works after an interrupt."""
    watch.seen = time.monotonic()
    try:
        call.check()
    except Exception as error:
        print(f"broken after {after}: {error!r}", flush=True)
        return False
    return True


def run_one(kind: str, url: str, count: int, seed: int) -> int:
    """One kind on one transport, in this process; prints one line."""
    watch = Watch()
    sys.unraisablehook = lambda unraisable: None  # interrupts in finalizers
    started = time.monotonic()
    found = at_points(kind, url, watch)
    found.update(by_dice(kind, url, count, seed, watch))
    print(
        f"{url.partition(':')[0]:7}{kind:26}{found['points']:6} points,{found['interrupts']:7} at random, 0 hangs, "
        f"{found['broken afterwards']} broken afterwards, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return int(bool(found["broken afterwards"]))


@contextmanager
def brokers(transports: list[str]) -> Iterator[dict[str, str]]:
    """The URL of each transport's broker, private to this run."""
    with tempfile.TemporaryDirectory(prefix="ka-soak-") as directory:
        urls = {"memory": "memory://interrupts"}
        nodes: list[RabbitMQNode | RedisNode] = []
        try:
            if "amqp" in transports:
                nodes.append(RabbitMQNode(Path(directory, "rabbitmq")))
            if "redis" in transports:
                nodes.append(RedisNode(Path(directory, "redis")))
            for node in nodes:
                node.start()
                urls["amqp" if isinstance(node, RabbitMQNode) else "redis"] = node.url()
            yield urls
        finally:
            for node in nodes:
                node.kill9()


def main() -> int:
    """Run what is asked for, each kind in a process of its own; 1 when something hung or was broken."""
    parser = argparse.ArgumentParser(prog="python -m soak.interrupts", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="interrupts at random instants, of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="default: all")
    parser.add_argument("--kind", action="append", choices=list(BLOCKING_CALLS), help="default: all")
    parser.add_argument("--url", help=argparse.SUPPRESS)  # of a broker: then this is the process of one kind
    given = parser.parse_args()
    if given.url:
        return run_one(given.kind[0], given.url, given.count, given.seed)
    transports = given.transport or list(TRANSPORTS)
    total: Counter[str] = Counter()
    with brokers(transports) as urls:
        for transport in transports:
            for kind in given.kind or BLOCKING_CALLS:
                options = ["--kind", kind, "--url", urls[transport], "--count", str(given.count)]
                command = [sys.executable, "-m", "soak.interrupts", *options, "--seed", str(given.seed)]
                status = subprocess.run(command, check=False).returncode
                total["kinds of calls"] += 1
                total["hung"] += status == HUNG
                total["broken"] += status not in (0, HUNG)
    print(
        f"interrupts: {total['kinds of calls']} kinds of calls, {given.count} interrupts at random instants each "
        f"(seed {given.seed}) and one at each point: {total['hung']} hung, {total['broken']} broken afterwards"
    )
    return int(bool(total["hung"] or total["broken"]))


if __name__ == "__main__":
    sys.exit(main())
