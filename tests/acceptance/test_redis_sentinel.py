"""Failover by Sentinel: consumers and publishers go on where the sentinels say, and what was confirmed is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from kombu_actors import Connection
from kombu_actors.broker import open_broker
from tests.acceptance.receiving import PREFETCH, Receiver, Trickle, all_beyond, drain, iterate
from tests.support.brokers import SentinelGroup, start_sentinel_group

HEARTBEAT = 1.0
RECOVERY = 5.0
"""Seconds, from when all sentinels name the new primary, until it takes a publish and a message is delivered."""
WIDTH = 20
"""Publishes under way at a time."""
FAILOVER = 20.0
"""Seconds that the sentinels may take themselves; some 2 s are usual here."""


@pytest.fixture
def group(node_directory: Path, request: pytest.FixtureRequest) -> Iterator[SentinelGroup]:
    """Two replicas, so that the new primary has one again."""
    group = start_sentinel_group(node_directory / "sentinels" / request.node.callspec.id, replicas=2)
    try:
        group.wait_ready()
        yield group
    finally:
        group.close()


def kill(group: SentinelGroup) -> None:
    """As a power cut would."""
    group.primary.kill9()


def fail_over(group: SentinelGroup) -> None:
    """At an operator's word: the old primary lives, and becomes a replica."""
    group.sentinels[0].ask("SENTINEL", "FAILOVER", group.service)


def stop(group: SentinelGroup) -> None:
    """It stands still, with all connections open."""
    group.primary.sigstop()


@pytest.mark.slow
@pytest.mark.parametrize("harm", [kill, fail_over, stop], ids=lambda harm: harm.__name__)
async def test_a_failover_under_load_is_over_within_five_seconds_of_redis_own(
    group: SentinelGroup, harm: Callable[[SentinelGroup], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The primary is killed, failed over by an operator, or stands still: the new one takes publishes, and both kinds
    of consumers are served, within 5 s of the sentinels naming it.  What was confirmed with one replica is received
    (but for what a primary that lives on took while the sentinels failed over: no WAIT helps against that)."""
    options = {"master_name": group.service, "confirm_replicas": 1}
    native, blocking = Receiver("native"), Receiver("blocking")
    stopping = threading.Event()
    opened = partial(
        open_broker, group.url(), transport_options=options, heartbeat=HEARTBEAT, connect_timeout=1, keep_dialling=True
    )
    connect = partial(Connection, group.url(), transport_options=options, heartbeat=HEARTBEAT, connect_timeout=1)
    async with opened() as publishing, trio.open_nursery() as nursery:
        trickle = Trickle(publishing, native, blocking, width=WIDTH)
        await trickle.declare()
        await nursery.start(iterate, opened(), native)
        nursery.start_soon(trio.to_thread.run_sync, drain, connect, blocking, stopping)
        nursery.start_soon(trickle.run)
        try:
            await all_beyond(20 * WIDTH, native, blocking, timeout=10)
            before = trickle.next - WIDTH
            await trio.to_thread.run_sync(harm, group)
            begun = trio.current_time()
            await trio.to_thread.run_sync(group.wait_failed_over, FAILOVER)
            named, mark = trio.current_time(), trickle.next
            assert await trio.to_thread.run_sync(trickle.confirmed.wait, mark, RECOVERY), "no publish was accepted"
            accepted = trio.current_time()
            await all_beyond(mark, native, blocking, timeout=RECOVERY - (accepted - named))
            delivered = trio.current_time()
            trickle.stop()
            await trickle.wait_received(RECOVERY)
        finally:
            stopping.set()  # a thread can't be cancelled
            nursery.cancel_scope.cancel()
    with capsys.disabled():
        print(
            f"\n  {harm.__name__}: the sentinels took {named - begun:.2f} s; then the first publish was accepted"
            f" {accepted - named:.2f} s, messages were delivered {delivered - named:.2f} s later"
        )
        for receiver in (native, blocking):
            print(f"    {receiver.queue}: {receiver.history.report()}")
    for receiver in (native, blocking):
        report = receiver.history.report()
        if harm is fail_over:
            # The old primary takes publishes, and its other replica confirms them, until both are told.
            assert set(report.lost) <= set(range(before, mark))
        else:
            report.check(duplicates=2 * PREFETCH + WIDTH)
