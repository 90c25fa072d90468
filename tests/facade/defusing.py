"""Receives one bomb and says by how many bytes the process grew before it was refused: ``FILE METHOD LIMIT API``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from kombu_actors import Connection, Queue, compression
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import DecodeError

LARGEST = re.compile(r"VmHWM:\s+(\d+) kB")


def largest_so_far() -> int:
    """The most memory that this process has had, in bytes."""
    found = LARGEST.search(Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def by_facade(method: str, *bodies: bytes) -> int:
    """Receive the bodies with ``Queue.get``; returns the growth over the last."""
    before = 0
    with Connection("memory://") as connection:
        queue = Queue("bombs")(connection.default_channel)
        queue.declare()
        producer = connection.Producer()
        for body in bodies:
            producer.publish(
                body, routing_key="bombs", content_type="application/data", content_encoding="binary",
                headers={"compression": method},
            )  # fmt: skip
            before = largest_so_far()
            read = partial(queue.get, no_ack=True, accept=["application/data"])
            expect_bomb(read) if body is bodies[-1] else read()
    return largest_so_far() - before


async def natively(method: str, *bodies: bytes) -> int:
    """The same with the trio-native API."""
    before = 0
    async with open_broker("memory://") as broker:
        await broker.declare(QueueSpec(name="bombs"))
        async with broker.subscribe("bombs", no_ack=True, accept=["application/data"]) as messages:
            for body in bodies:
                await broker.publish(
                    body, routing_key="bombs", content_type="application/data", headers={"compression": method}
                )
                before = largest_so_far()
                read = partial(getattr, await anext(messages), "payload")
                expect_bomb(read) if body is bodies[-1] else read()
    return largest_so_far() - before


def expect_bomb(read: Callable[[], object]) -> None:
    """It must be refused."""
    with pytest.raises(DecodeError, match="expands beyond"):
        read()


if __name__ == "__main__":
    file, method, limit, api = sys.argv[1:]
    compression.output_limit = int(limit)
    harmless, _ = compression.compress(b"what is imported at first use is imported now", method)
    bodies = (harmless, Path(file).read_bytes())
    print(by_facade(method, *bodies) if api == "facade" else trio.run(natively, method, *bodies))
