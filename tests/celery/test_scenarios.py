"""Celery 5.7 on kombu_actors: one worker for each ground, and many scenarios at it; the rest is in ``make celery``.

Each ground is driven by a process of its own, a Celery client that is switched as the worker is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.brokers import RabbitMQNode

ROOT = Path(__file__).parents[2]
SOME = (
    *(
        "result",
        "failure",
        "retries",
        "countdown",
        "expires",
        "group",
        "acks_late",
        "rejected",
        "ping",
        "active",
        "revoke",
    ),
    *("consumers", "events", "reset_of_waiting", "idle_reset"),
)
"""What depends on the pool most."""
MORE = ("many", "chord", "chord_in_chain", "priorities", "broadcast", "state", "pool_size", "reset", "child_killed")
"""What depends on the broker."""


def drive(*arguments: str, timeout: float = 240) -> None:
    """Run scenarios; each that fails is told with its reason."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.celery.drive", *arguments],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = {one["scenario"]: one["why"] for one in told if not one["ok"]}
    assert done.returncode == 0, "\n".join(
        [done.stderr[-6000:], *failed.values(), f"{[*failed]} failed of {len(told)}"]
    )
    assert told


@pytest.mark.slow
def test_rabbitmq_prefork(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """The quick scenarios, a killed child and a reset among them."""
    drive("--broker", "rabbitmq", "--port", str(rabbitmq.port), "--vhost", vhost, "--pool", "prefork")


@pytest.mark.slow
def test_redis_prefork() -> None:
    """What depends on the pool and on the broker."""
    drive("--broker", "redis", "--pool", "prefork", *SOME, *MORE)


@pytest.mark.slow
def test_redis_threads() -> None:
    """What depends on the pool."""
    drive("--broker", "redis", "--pool", "threads", *SOME)


@pytest.mark.slow
def test_rabbitmq_solo_with_results_as_messages(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """What depends on the pool, with Celery's rpc backend."""
    options = ("--pool", "solo", "--results", "rpc")
    drive("--broker", "rabbitmq", "--port", str(rabbitmq.port), "--vhost", vhost, *options, *SOME)
