"""What processes have counted stays when they go: counters that went back would be a restart to whoever reads them."""

from __future__ import annotations

import os
import signal

import trio

from kombu_actors.broker import Broker
from tests.conformance.realms import Realm
from tests.fleet.support import eventually

from .support import Watched, declare, running


def acked(watched: Watched) -> tuple[int, int]:
    one = watched.program.status().totals.queues.get("numbers")
    return (0, 0) if one is None else (one.count.acked, 0 if one.calls is None else sum(one.calls.counts))


async def test_counters_never_go_back(realm: Realm, broker: Broker) -> None:
    """Neither when a process is killed, nor while one drains, nor when it has ended; its death is counted."""
    await declare(broker, "numbers.done")
    async with running(realm) as watched:
        for number in range(50):
            await broker.publish(number, routing_key="numbers")
        await eventually(lambda: acked(watched) == (50, 50))

        async def look() -> None:
            while True:
                assert acked(watched) == (50, 50)
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            os.kill(watched.pids()[0], signal.SIGKILL)
            await watched.wait_event("process_ready", count=2, process=1)
            await watched.program.reload()
            nursery.cancel_scope.cancel()
        await broker.publish(50, routing_key="numbers")
        await eventually(lambda: acked(watched) == (51, 51))
        assert watched.program.status().totals.deaths == 1
    assert acked(watched) == (51, 51)
