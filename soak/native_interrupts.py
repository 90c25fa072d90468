"""Interrupt trio-native programs and supervision trees at random instants: ``python -m soak.native_interrupts``.

Real processes, real SIGINT.  Each program must end with a bare ``KeyboardInterrupt`` within ``STOP_MAX`` seconds, its
children stopped in order, nothing stuck; brokers hear a goodbye from all that had dialled.  One in four is interrupted
again during that: then it must only end.  A process runs a batch, one program after another; ``--seed`` repeats the
same moments as far as clocks allow.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from kombu_actors.transport import transport_for
from soak._native_programs import PROGRAMS, run_interrupted

BATCH = 20
"""Programs that one process runs: starting a process takes as long as five of them."""
HANG = 30.0
"""Seconds after which a batch's process shows all stacks and ends: no program may take that long."""
AT_ONCE = 2


def plan(urls: Mapping[str, str], programs: int) -> Iterator[tuple[str, str, int]]:
    """(transport, program, how many) for each batch: every kind equally often."""
    kinds = [(transport, name) for transport in urls for name in PROGRAMS if name != "tree"] + [("-", "tree")]
    for transport, name in kinds:
        left = max(1, programs // len(kinds))
        while left > 0:
            yield transport, name, min(left, BATCH)
            left -= BATCH


def repeat_what_was_ignored(unraisable: Any) -> None:
    """Interrupt again when the interpreter has ignored it, in a weak reference's callback, as a person would."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        # From a thread, a moment later: in here it would be ignored again.
        threading.Timer(0.001, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def run_batch(url: str, names: str, count: int, times: int, seed: str) -> None:
    """In a process of its own: run programs (``names``, with commas) in turn, print one line of JSON for each."""
    if ":" in url:
        transport_for(url.partition(":")[0])  # imported now: on a busy machine that takes seconds
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    sys.unraisablehook = repeat_what_was_ignored
    logging.basicConfig(level=logging.CRITICAL)  # what concerns messages is not judged here
    for number, name in zip(range(count), cycle(names.split(",")), strict=False):
        faulthandler.dump_traceback_later(HANG, exit=True)
        wrong, took = run_interrupted(name, url, random.Random(f"{seed}/{number}"), times)
        print(json.dumps({"program": name, "wrong": wrong, "took": took}), flush=True)
    faulthandler.cancel_dump_traceback_later()


def start_batch(url: str, names: str, count: int, times: int, seed: str) -> list[dict[str, Any]]:
    """Run a batch in a process; return what became of each program."""
    command = [sys.executable, "-X", "dev", "-m", __name__ if __name__ != "__main__" else "soak.native_interrupts"]
    batch = subprocess.run(
        [*command, "--batch", url, names, str(count), str(times), seed],
        capture_output=True,
        text=True,
        timeout=HANG * (count + 1),
    )
    results: list[dict[str, Any]] = [json.loads(line) for line in batch.stdout.splitlines()]
    if len(results) < count or complaints(batch.stderr):
        results.append(
            {
                "program": names,
                "wrong": [f"its process ended with {batch.returncode}: {batch.stderr[-2000:]}"],
                "took": 0.0,
            }
        )
    for number, result in enumerate(results):
        result["name"] = f"{result['program']} on {url.partition(':')[0]}, seed {seed}/{number}"
    return results


def interrupt_programs(
    urls: Mapping[str, str], programs: int, times: int, seed: int
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Interrupt so many programs so many times each; return all results, and how many there were of each kind."""
    jobs = list(plan(urls, programs))
    counts: Counter[str] = Counter()
    results: list[dict[str, Any]] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        batches = [
            pool.submit(start_batch, urls.get(transport, "-"), name, count, times, f"{seed}/{job}")
            for job, (transport, name, count) in enumerate(jobs)
        ]
        for (transport, name, _), batch in zip(jobs, batches, strict=True):
            counts[transport if transport in urls else name] += len(batch.result())
            results += batch.result()
    return results, counts


@contextmanager
def brokers() -> Iterator[tuple[dict[str, str], Any]]:
    """A private RabbitMQ and Redis, and the memory broker: their URLs, and the RabbitMQ node."""
    from tests.support.brokers import RabbitMQNode, RedisNode

    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ka-")))
        rabbitmq, redis = RabbitMQNode(base / "rabbitmq"), RedisNode(base / "redis")
        stack.callback(rabbitmq.close)
        rabbitmq.start()
        redis.start()
        stack.callback(redis.kill9)
        yield {"memory": "memory://interrupted", "amqp": rabbitmq.url(), "redis": redis.url()}, rabbitmq


def unheard_goodbyes(log: str) -> int:
    """How many open connections RabbitMQ saw end without a goodbye: at most those that were still dialling for us."""
    return len(re.findall(r"vhost: '/', user: 'guest'\):\n.*client unexpectedly closed TCP connection", log))


def complaints(stderr: str) -> str:
    """What a process had to say, without what is trio's.

    Interrupted in its own tasks that dial, it forgets a socket that isn't connected; a second interrupt that meets the
    end of its run finds the pipe closed that would have told it.
    """
    lines = stderr.splitlines()
    trios = any("unclosed <socket" in line and "raddr" not in line for line in lines)
    return "" if trios or "signal wakeup fd" in stderr else stderr


def main() -> int:
    """Run and report; 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=650)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--batch", nargs=5, metavar=("URL", "PROGRAM", "COUNT", "TIMES", "SEED"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.batch:
        url, name, count, times, seed = arguments.batch
        run_batch(url, name, int(count), int(times), seed)
        return 0
    with brokers() as (urls, rabbitmq):
        results, counts = interrupt_programs(urls, arguments.programs * 3 // 4, 1, arguments.seed)
        unheard = unheard_goodbyes(rabbitmq.log)
        more, others = interrupt_programs(urls, arguments.programs // 4, 2, arguments.seed)
        results, counts = results + more, counts + others
    wrong = [result for result in results if result["wrong"]]
    for result in wrong:
        print(result["name"], *result["wrong"], sep="\n  ")
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    slowest = max(results, key=lambda result: float(result["took"]))
    print(
        f"native_interrupts: seed {arguments.seed}: {len(results)} programs interrupted ({kinds}), {len(wrong)} ended "
        f"wrongly, slowest end {slowest['took']:.2f} s ({slowest['name']}), "
        f"{unheard} connections to RabbitMQ ended without goodbye"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
