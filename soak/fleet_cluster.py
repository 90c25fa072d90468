"""A node of a RabbitMQ cluster, or the primary under Sentinels, goes under load: ``python -m soak.fleet_cluster``.

The fleet is to go on over another one.  ``tests/acceptance/test_fleet_cluster.py`` and ``test_fleet_sentinel.py`` have
a round of each.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kombu_actors.broker import QueueSpec
from tests.acceptance.loaded import CONCURRENCY, PUBLISHERS, QUEUE, Diary, make_fleet, publish
from tests.support.brokers import SentinelGroup, start_sentinel_group
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy
from tests.support.rabbitmq import RabbitMQNode
from tests.support.rabbitmq_cluster import TICK, RabbitMQCluster

RECOVERY = 5.0
"""Seconds until a message is handled that was published when the cluster served again."""
ELECTION = 30.0
"""Seconds that the cluster may take itself."""
PATIENCE = 60.0
ROUND = 5 * PATIENCE
"""For all of one, a node's restart included."""


@attrs.frozen
class Site:
    """A cluster, with a proxy before each node: the way of the fleet and of its publishers."""

    cluster: RabbitMQCluster
    proxies: list[FaultProxy]

    @property
    def urls(self) -> list[str]:
        pairs = zip(self.cluster.nodes, self.proxies, strict=True)
        return [node.url(port=proxy.port) for node, proxy in pairs]

    def talked_to(self) -> int:
        """The place of the node that everybody talks to: clients of one list take the same."""
        return max(range(3), key=lambda place: self.proxies[place].open)

    def lead(self, place: int) -> None:
        """Have that node lead the queue, so that what strikes it strikes the queue."""
        node = self.cluster.nodes[place]
        server = f"{{'%2F_{QUEUE}', '{node.name}'}}"
        node.eval(f"case ra:members({server}, 5000) of {{ok, _, L}} -> ra:transfer_leadership(L, {server}) end")
        wait_until(
            lambda: self.cluster.leader_of(QUEUE, node) == node.name,
            timeout=ELECTION,
            waiting_for=f"{node.name} to lead the queue",
        )

    def until_led_by_others(self, place: int) -> None:
        """Wait until the queue has a leader elsewhere."""
        harmed, asked = self.cluster.nodes[place], self.cluster.nodes[(place + 1) % 3]
        wait_until(
            lambda: self.cluster.leader_of(QUEUE, asked) not in (None, harmed.name),
            timeout=ELECTION,
            waiting_for="another node to lead the queue",
        )


@contextmanager
def running_cluster(base: Path) -> Iterator[Site]:
    """All three nodes."""
    cluster = RabbitMQCluster(base)
    with ExitStack() as stack:
        stack.callback(cluster.close)
        cluster.start()
        yield Site(cluster, [stack.enter_context(FaultProxy(node.port)) for node in cluster.nodes])


Harm = Callable[[Site, int], None]


def cut_off(site: Site, place: int) -> None:
    """Nothing gets through to the node; the cluster has it still."""
    site.proxies[place].blackhole()


def stop(site: Site, place: int) -> None:
    """It stands still, with all connections open."""
    site.cluster.nodes[place].sigstop()
    site.until_led_by_others(place)


def kill(site: Site, place: int) -> None:
    """As a power cut would."""
    site.cluster.nodes[place].kill9()
    site.until_led_by_others(place)


async def mend(site: Site, place: int) -> None:
    """Undo the harm, and wait until the cluster is whole.

    A node that stood still is begun anew: who comes back to a cluster that has given it up may wait for an operator.
    """
    node: RabbitMQNode = site.cluster.nodes[place]
    site.proxies[place].heal()
    if node.stopped:
        node.kill9()
    if not node.running:
        await node.start_async()
    await trio.to_thread.run_sync(site.cluster.wait_joined, node)


@attrs.frozen
class Outcome:
    """What came of one round."""

    harm: str
    away: float
    """Seconds that the broker itself was away."""
    took: float
    """Seconds from then until a message was handled that was published after it."""
    may_take: float
    diary: Diary
    retried: float = 0.0
    """Seconds from then until one was handled that had failed after it."""

    def check(self) -> None:
        """Raises ``AssertionError`` with what is wrong."""
        assert self.took < self.may_take, str(self)
        assert self.retried < RECOVERY, str(self)
        assert not self.diary.lost, str(self)
        assert self.diary.duplicates <= 3 * CONCURRENCY + PUBLISHERS, str(self)

    def __str__(self) -> str:
        return (
            f"{self.harm}: the broker was away for {self.away:.2f} s, the fleet handled {self.took:.2f} s later, "
            f"a retry after another {self.retried:.2f} s; {self.diary}"
        )


async def strike(site: Site, harm: Harm, heartbeat: float, delay: float) -> Outcome:
    """The node that the fleet and its publishers talk to, which leads the queue, is harmed under load, then mended.

    With a ``delay`` of their own the retries' queue is on that node, too.
    """
    diary = Diary()
    options = {"heartbeat": heartbeat, "connect_timeout": 1.0}
    fleet = make_fleet(site.urls, QueueSpec(name=QUEUE, type="quorum"), diary, options, delay=delay)
    async with trio.open_nursery() as nursery:
        await nursery.start(fleet.run)
        async with fleet.open() as client:
            await nursery.start(publish, client, diary)
            await diary.wait_beyond(10 * PUBLISHERS, PATIENCE)
            place = site.talked_to()
            await trio.to_thread.run_sync(site.lead, place)
            began = time.monotonic()
            try:
                await trio.to_thread.run_sync(harm, site, place)
                served, mark = time.monotonic(), diary.next
                took = await diary.wait_beyond(mark, PATIENCE)
                # Each tenth is tried twice; what waited for that on the node itself comes when it is back.
                retried = await diary.wait(partial(diary.handled_from, mark - mark % 10 + 10), PATIENCE, "a retry")
            finally:
                with trio.CancelScope(shield=True):  # the next round needs it, whatever became of this one
                    await mend(site, place)
            diary.stopped = True
            await diary.wait(lambda: diary.complete, PATIENCE, "what was confirmed is handled")
        fleet.drain("the round is over")
    silent = 0.0 if harm is kill else max(2 * heartbeat - (served - began), 0.0)
    return Outcome(harm.__name__, served - began, took, silent + RECOVERY, diary, retried)


async def strike_primary(group: SentinelGroup, harm: Callable[[SentinelGroup], None]) -> Outcome:
    """The primary is harmed under load, once."""
    diary = Diary()
    transport = {"master_name": group.service, "confirm_replicas": 1}
    options = {"heartbeat": 1.0, "connect_timeout": 1.0, "transport_options": transport}
    fleet = make_fleet(group.url(), QueueSpec(name=QUEUE), diary, options)
    async with trio.open_nursery() as nursery:
        await nursery.start(fleet.run)
        async with fleet.open() as client:
            await nursery.start(publish, client, diary)
            await diary.wait_beyond(10 * PUBLISHERS, PATIENCE)
            began = time.monotonic()
            await trio.to_thread.run_sync(harm, group)
            await trio.to_thread.run_sync(group.wait_failed_over)
            named, mark = time.monotonic(), diary.next
            took = await diary.wait_beyond(mark, PATIENCE)
            diary.stopped = True
            await diary.wait(lambda: diary.complete, PATIENCE, "what was confirmed is handled")
        fleet.drain("the round is over")
    return Outcome(f"{harm.__name__} (Sentinel)", named - began, took, RECOVERY, diary)


def kill_primary(group: SentinelGroup) -> None:
    """As a power cut would."""
    group.primary.kill9()


def stop_primary(group: SentinelGroup) -> None:
    """It stands still, with all connections open."""
    group.primary.sigstop()


HARMS: dict[Harm, float] = {cut_off: 1.0, stop: TICK, kill: TICK}
"""Each with the clients' heartbeat: that a node stands still they notice after its cluster has, as they should."""


async def limited(play: Callable[..., Awaitable[Outcome]], *arguments: object) -> Outcome:
    """One round, which may fail, and not wait for ever: a fleet begins as soon as it can."""
    with trio.fail_after(ROUND):
        return await play(*arguments)


def rounds(directory: Path, count: int, dice: random.Random) -> Iterator[Callable[[], Outcome]]:
    """So many on one cluster, and as many each on a group of its own."""
    with running_cluster(directory / "cluster") as site:
        for number in range(count):
            harm = dice.choice([*HARMS])
            yield partial(trio.run, limited, strike, site, harm, HARMS[harm], 0.3 + number / 1000)
    for number in range(count):
        group = start_sentinel_group(directory / f"group-{number}", replicas=2)
        try:
            group.wait_ready()
            yield partial(trio.run, limited, strike_primary, group, dice.choice([kill_primary, stop_primary]))
        finally:
            group.close()


def main() -> int:
    """All rounds; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m soak.fleet_cluster")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what goes wrong here is meant to
    failed, outcomes = 0, list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="ka-") as name:
        for play in rounds(Path(name), chosen.rounds, random.Random(chosen.seed)):
            try:
                outcome = play()
                outcome.check()
            except Exception as error:
                failed += 1
                print(f"FAILED: {error!r}", flush=True)
            else:
                outcomes.append(outcome)
                print(outcome, flush=True)
    slowest = max((outcome.took for outcome in outcomes), default=0.0)
    messages = sum(len(outcome.diary.confirmed) for outcome in outcomes)
    print(f"{len(outcomes)} rounds right, {failed} failed; {messages} messages; again after at most {slowest:.1f} s")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
