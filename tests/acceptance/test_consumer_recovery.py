"""P3: a consumer never stays deaf, whatever happens to its connection."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial

import pytest
import trio

from kombu_actors import Connection
from kombu_actors.broker import open_broker
from tests.acceptance.receiving import PREFETCH, Receiver, Trickle, all_beyond, drain, iterate
from tests.support.brokers import RabbitMQNode
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

SEED = 20
FAULTS = ["reset"] * 9 + ["refuse"] * 8 + ["blackhole"] * 3
HEARTBEAT = 2.0
NOTICED = 2 * HEARTBEAT + 0.5
"""Seconds after which a blackhole has been noticed: two heartbeats missed."""
RECOVERY = 5.0
"""Seconds from the end of a fault until messages flow again: the promise."""


@pytest.mark.slow
async def test_consumers_deliver_again_within_five_seconds_of_twenty_faults_and_lose_nothing(
    rabbitmq: RabbitMQNode,
    vhost: str,
    fault_proxy: Callable[[int], FaultProxy],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A native subscription and a facade consumer, each behind a proxy that resets, blackholes and
    refuses 20 times: both deliver again within 5 s of each heal, each is subscribed exactly once,
    nothing is lost.  Their code only iterates, and only drains events."""
    dice = random.Random(SEED)
    faults = dice.sample(FAULTS, len(FAULTS))
    proxy = fault_proxy(rabbitmq.port)
    proxied = rabbitmq.url(vhost=vhost, port=proxy.port)
    native, blocking = Receiver("native"), Receiver("blocking")
    stop = threading.Event()
    recoveries: list[float] = []

    async with open_broker(rabbitmq.url(vhost=vhost)) as direct, trio.open_nursery() as nursery:
        trickle = Trickle(direct, native, blocking)
        await trickle.declare()
        await nursery.start(iterate, open_broker(proxied, heartbeat=HEARTBEAT, connect_timeout=2), native)
        connect = partial(Connection, proxied, heartbeat=HEARTBEAT, connect_timeout=2)
        nursery.start_soon(trio.to_thread.run_sync, drain, connect, blocking, stop)
        nursery.start_soon(trickle.run)
        await all_beyond(0, native, blocking, timeout=10)

        try:
            for fault in faults:
                connections = proxy.accepted
                await _inflict(fault, proxy, dice)
                healed, mark = trio.current_time(), trickle.next
                await all_beyond(mark, native, blocking, timeout=RECOVERY)
                recoveries.append(trio.current_time() - healed)
                assert proxy.accepted >= connections + 2, f"{fault} did not break both connections"
                # A connection that the broker has not yet found dead holds a ghost of the old consumer.
                await trio.to_thread.run_sync(_each_subscribed_once, rabbitmq, vhost)

            trickle.stop()
            await all_beyond(trickle.next - 1, native, blocking, timeout=RECOVERY)
        finally:
            stop.set()  # a thread can't be cancelled
            nursery.cancel_scope.cancel()

    with capsys.disabled():
        print(f"\n  {len(faults)} faults, delivering again after at most {max(recoveries):.2f} s")
        for receiver in (native, blocking):
            print(f"  {receiver.queue}: {receiver.history.report()}")
    for receiver in (native, blocking):
        report = receiver.history.report()
        report.check(duplicates=len(faults) * PREFETCH)
        assert report.attempted == report.confirmed == trickle.next


async def _inflict(fault: str, proxy: FaultProxy, dice: random.Random) -> None:
    """Break the connections, keep them broken for a while, heal."""
    if fault == "reset":
        proxy.reset()
        return
    if fault == "refuse":
        proxy.refuse()
        proxy.reset()
        await trio.sleep(dice.uniform(0.1, 2.0))
    else:
        proxy.blackhole()
        await trio.sleep(NOTICED)
    proxy.heal()


def _each_subscribed_once(rabbitmq: RabbitMQNode, vhost: str) -> None:
    def counts() -> dict[str, int]:
        return {name: queue["consumers"] for name, queue in rabbitmq.list_queues(vhost).items()}

    expected = {"native": 1, "blocking": 1}
    wait_until(lambda: counts() == expected, timeout=RECOVERY, waiting_for=f"{expected}, not {counts()}")
