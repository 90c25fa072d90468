"""Where scenarios take place: a broker, a breakable way to it, a worker on one kombu or the other, and a client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from tests.support.processes import ServerProcess, wait_until
from tests.support.proxy import FaultProxy
from tests.support.rabbitmq import RabbitMQNode
from tests.support.redis_server import RedisNode

from .diary import Diary

__all__ = ["HOST", "PATIENCE", "Ground", "celery_module"]

ROOT = Path(__file__).parents[2]
HOST = "worker@scenarios"
PATIENCE = 30.0
"""Seconds for what takes milliseconds on a machine that does nothing else."""
PROJECT = "tests.celery.project"


def celery_module(name: str) -> Any:
    """One of Celery's modules, which have no types."""
    return import_module(name)


def celery_command(switched: bool) -> list[str]:
    """How the celery program is started."""
    return [sys.executable, "-m", *(["kombu_actors", "celery"] if switched else ["celery"])]


@attrs.define(kw_only=True)
class Ground:
    """One broker, one pool, one of both kombus."""

    broker: str
    pool: str
    results: str
    switched: bool
    directory: Path
    broker_port: int
    broker_url: Callable[[int], str]
    """By the port."""
    results_url: str
    node: RabbitMQNode | RedisNode | None = None
    """The broker, where this run may kill it."""
    options: tuple[str, ...] = ()
    proxy: FaultProxy = attrs.field(init=False)
    worker: ServerProcess = attrs.field(init=False)
    guests: list[ServerProcess] = attrs.field(init=False, factory=list)
    """Workers that a scenario has started beside it."""
    diary: Diary = attrs.field(init=False)
    app: Any = attrs.field(init=False)
    tasks: Any = attrs.field(init=False)
    """The project's module: what a client calls."""

    def start(self) -> None:
        """Bring all of it up; the worker is ready then."""
        self.diary = Diary(self.directory / "diary")
        self.proxy = FaultProxy(self.broker_port)
        os.environ.update(self.environment())
        from . import project

        self.tasks, self.app = project, project.app
        self.worker = self.start_worker()

    def _all_of_it(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            "C_FORCE_ROOT": "1",
            **self.environment(),
        }

    def environment(self) -> dict[str, str]:
        """What the project reads."""
        return {
            "SCENARIO_BROKER": self.broker_url(self.proxy.port),
            "SCENARIO_RESULTS": self.results_url,
            "SCENARIO_DIARY": str(self.diary.path),
        }

    def start_worker(self, host: str = HOST, *more: str, switched: bool | None = None) -> ServerProcess:
        """``celery worker``, ready; on the other kombu than the ground's where told so."""
        worker = self.program(
            host,
            *("worker", "-n", host, "-P", self.pool, "-Q", "celery,other,everyone", "-c", "2", "-l", "INFO"),
            *self.options,
            *more,
            until=f"{host} ready",
            switched=switched,
        )
        if host != HOST:
            self.guests.append(worker)
        worker.start()
        return worker

    def dismiss_guests(self) -> None:
        """End what a scenario that failed has left behind: the next one has the ground for itself."""
        for worker in self.guests:
            if worker.running:
                worker.kill9()
        self.guests.clear()

    def program(self, name: str, *arguments: str, until: str, switched: bool | None = None) -> ServerProcess:
        """A celery program, which serves when its output says ``until``."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        process: ServerProcess
        process = ServerProcess(
            [*celery_command(self.switched if switched is None else switched), "-A", PROJECT, *arguments],
            directory=directory,
            environment=self._all_of_it(),
            is_serving=lambda: until in process.output,
            start_timeout=60,
        )
        return process

    def run(self, *arguments: str) -> str:
        """A celery program that ends by itself; returns what it printed."""
        done = subprocess.run(
            [*celery_command(self.switched), "-A", PROJECT, *arguments],
            cwd=self.directory, env=self._all_of_it(), text=True, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        return done.stdout

    def children(self) -> list[int]:
        """The processes of a prefork worker's pool."""
        by_thread = Path(f"/proc/{self.worker.pid}/task").glob("*/children")
        return [int(pid) for children in by_thread for pid in children.read_text().split()]

    def times_connected(self) -> int:
        """How often the worker has begun to consume, as its log says: once more after each loss that it hears of."""
        return self.worker.output.count("Connected to")

    def waiting(self, queue: str) -> int:
        """How many messages a queue has that no worker has been sent; asked past the proxy."""
        with self.tasks.kombu.Connection(self.broker_url(self.broker_port)) as connection:
            count: int = connection.default_channel.queue_declare(queue, passive=True).message_count
        return count

    def until(self, condition: Callable[[], object], waiting_for: str, timeout: float = PATIENCE) -> None:
        """Wait for what is seen in the diary, or asked of the worker."""
        wait_until(condition, timeout=timeout, waiting_for=waiting_for)

    def close(self) -> None:
        """End the worker as its users do, and the proxy."""
        try:
            if hasattr(self, "worker"):
                self.worker.stop(PATIENCE)
        finally:
            self.app.pool.force_close_all()
            self.app.close()
            self.proxy.close()

    def stop_child(self, pid: int) -> None:
        """Kill a child as the kernel does that is out of memory."""
        os.kill(pid, signal.SIGKILL)

    def quiet(self, seconds: float) -> None:
        """Give what must not happen the time to happen."""
        time.sleep(seconds)
