"""Where the runs over Redis take place: a private server, a fresh queue for each, and a count afterwards."""

from __future__ import annotations

import importlib
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.redis_server import RedisNode

from .cases import Case, Contender, Start, Task
from .meter import BODY, Sample
from .redis_info import info
from .yard import RunFailed, in_process_of_its_own

_kombu: Any = importlib.import_module("kombu")
_redis: Any = importlib.import_module("redis")


class RedisYard:
    """Runs contenders, one at a time, against one server.  Get it from ``open_redis_yard``."""

    def __init__(self, url: str, client: Any) -> None:
        self._url = url
        self._client = client

    def run(self, case: Case, contender: Contender, messages: int, warm_up: int, size: int) -> Sample:
        """One run.

        Raises:
            RunFailed: it ended with an error, not in time, or left other messages behind than it should.
        """
        task = Task(self._url, f"benchmarks-{case.name}-{uuid.uuid4().hex[:8]}", messages, warm_up, size)
        self._client.flushall()
        if case.start is Start.FULL:
            self._put(task.queue, messages + warm_up)
        sample = in_process_of_its_own(contender, task)
        expected = messages + warm_up if case.start is Start.EMPTY else 0
        found, unacked = self._client.llen(task.queue), self._client.hlen("unacked")
        if (found, unacked) != (expected, 0):
            raise RunFailed(f"the queue holds {found} messages where {expected} should be; {unacked} are unsettled")
        return sample

    def _put(self, queue: str, messages: int) -> None:
        """Publish one with kombu, and multiply it: for a consumer it is as good."""
        with _kombu.Connection(self._url) as connection:
            connection.Producer().publish(BODY, routing_key=queue, delivery_mode=2)
        (raw,) = self._client.lrange(queue, 0, 0)
        tag = raw.rpartition(b'"delivery_tag": "')[2][:36]
        with self._client.pipeline(transaction=False) as pipeline:
            for _ in range(messages - 1):
                pipeline.lpush(queue, raw.replace(tag, str(uuid.uuid4()).encode()))
            pipeline.execute()


@contextmanager
def open_redis_yard() -> Iterator[tuple[RedisYard, str]]:
    """Start a server in a temporary directory; yields the yard and which server it is."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        node = RedisNode(Path(directory))
        try:
            node.start()
            with _redis.Redis(port=node.port) as client:
                yield RedisYard(node.url(), client), f"Redis {info(node.url())['redis_version']}"
        finally:
            if node.running:
                node.kill9()
