"""All scenarios of Celery, on each broker and pool, on kombu_actors and on stock kombu: ``make celery``.

``ARGS='redis prefork'`` chooses among brokers (rabbitmq, redis), pools (prefork, threads, solo, gevent) and kombus
(ours, stock).  Fails when a scenario fails on ours; stock kombu's column is there to be compared with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product

BROKERS, POOLS, KOMBUS = ("rabbitmq", "redis"), ("prefork", "threads", "solo"), ("ours", "stock")
PATIENCE = 900
"""Seconds for one ground; a scenario that hangs gives up in 60."""


def main() -> int:
    """Run what is asked for, a line each; 1 when one failed on ours, 2 when that can't be understood."""
    words = set(sys.argv[1:])
    if strange := words - {*BROKERS, *POOLS, *KOMBUS, "gevent"}:
        print(f"not among brokers, pools and kombus: {', '.join(sorted(strange))}\n{__doc__}", file=sys.stderr)
        return 2
    brokers, pools, kombus = ([one for one in kind if one in words] or kind for kind in (BROKERS, POOLS, KOMBUS))
    pools = ["gevent"] if "gevent" in words else pools
    failed = 0
    lines = []
    for broker, pool in product(brokers, pools):
        for kombu in kombus:
            told = drive(broker, pool, kombu)
            bad = [str(one["scenario"]) for one in told if not one["ok"]]
            failed += (len(bad) if told else 1) * (kombu == "ours")
            words_of_it = " ".join(bad) if told else "it did not come up"
            lines.append(f"{broker:9} {pool:8} {kombu:6} {len(told) - len(bad):3} of {len(told)}  {words_of_it}")
            print(lines[-1], flush=True)
    print(f"Celery's scenarios: {failed} failed on kombu_actors, on {len(lines)} grounds")
    return int(bool(failed))


def drive(broker: str, pool: str, kombu: str) -> list[dict[str, object]]:
    """One ground, brokers of its own."""
    command = (sys.executable, "-m", "tests.celery.drive", "--lengthy")
    done = subprocess.run(
        [*command, "--broker", broker, "--pool", pool, "--kombu", kombu],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    sys.exit(main())
