"""Celery's pools of green threads run on kombu_actors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest

from kombu_actors import Connection
from kombu_actors.celery import DIRECTORY
from kombu_actors.utils.uuid import uuid
from tests.support.brokers import RabbitMQNode
from tests.support.processes import ServerProcess, wait_until
from tests.support.proxy import FaultProxy

ROOT = Path(__file__).parents[2]
TOGETHER = 10
TASKS = 20


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_worker_of_green_threads_does_every_task_over_a_reset(
    rabbitmq: RabbitMQNode,
    vhost: str,
    fault_proxy: Callable[[int], FaultProxy],
    tmp_path: Path,
    pool: str,
) -> None:
    """Up to ten tasks nap at a time; the connection is reset while some are under way; none is lost.

    An ack that comes after the reset is refused, and logged by Celery; its task runs once more.
    """
    proxy = fault_proxy(rabbitmq.port)
    diary = tmp_path / "diary"
    diary.touch()
    worker: ServerProcess
    command = [sys.executable, "-m", "celery", "-A", "tests.celery.green_tasks", "worker", "-P", pool]
    worker = ServerProcess(
        [*command, "-c", str(TOGETHER), "-l", "INFO", "-n", "green@host", "--without-mingle", "--without-gossip"],
        directory=tmp_path,
        environment={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{DIRECTORY}:{ROOT}",
            "EVENTLET_NO_GREENDNS": "yes",
            "BROKER": rabbitmq.url(vhost=vhost, port=proxy.port),
            "DIARY": str(diary),
        },
        is_serving=lambda: "green@host ready" in worker.output,
        start_timeout=60,
    )

    def done() -> set[str]:
        return {line for line in diary.read_text().split() if line.startswith("-")}

    def send(numbers: range) -> None:
        for number in numbers:
            headers = {"task": "nap", "id": uuid(), "lang": "py"}
            producer.publish([[number], {}, {}], routing_key="celery", headers=headers, correlation_id=headers["id"])

    worker.start()
    try:
        with Connection(rabbitmq.url(vhost=vhost)) as connection:
            producer = connection.Producer()
            send(range(TASKS))
            wait_until(lambda: len(done()) >= TOGETHER, timeout=20, waiting_for="the first tasks")
            proxy.reset()
            send(range(TASKS, 2 * TASKS))
            wait_until(lambda: len(done()) == 2 * TASKS, timeout=30, waiting_for="all tasks")
        assert max(accumulate(1 if line.startswith("+") else -1 for line in diary.read_text().split())) > TOGETHER / 2
        assert "kombu_actors" in worker.output
    finally:
        worker.stop()
