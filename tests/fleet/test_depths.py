"""Depths: where the messages of a fleet are, by count."""

from __future__ import annotations

from kombu_actors.broker import Broker
from kombu_actors.fleet import Fleet, Retry
from kombu_actors.fleet.depths import DelayDepth
from tests.conformance.realms import Realm

from .support import make_fleet, running, wait_ready


def counted(realm: Realm) -> Fleet:
    fleet = make_fleet(realm, retry=Retry(delays=(30, 60)))

    @fleet.consumer("bad")
    async def bad(body: object) -> None:
        raise ValueError("bad")

    @fleet.consumer("gone", retry=Retry(delays=()), dead_letter="graves")
    async def gone(body: object) -> None:
        raise ValueError("gone")

    return fleet


async def test_depths_count_what_is_ready_retrying_and_dead(realm: Realm, broker: Broker) -> None:
    """In each place on its own; what a handler has in hand is in none of them."""
    fleet = counted(realm)
    async with running(fleet), fleet.open() as client, fleet.depths() as depths:
        for _ in range(3):
            await client.publish("bad", "x")
        await client.publish("gone", "x")
        await wait_ready(broker, "graves", 1)
        await wait_ready(broker, "ka.delay.30000", 3)
        found = await depths.look()
        await fleet.pause("bad")
        await client.publish("bad", "x")
        paused = await depths.look()
    first, second = found.queues
    assert (first.queue, first.ready, first.consumers, first.dead) == ("bad", 0, 1, 0)
    assert (first.dead_letter, first.delays) == ("bad.dead", (30, 60))
    assert (second.queue, second.ready, second.dead_letter, second.dead) == ("gone", 0, "graves", 1)
    assert second.delays == ()
    assert found.delays == (DelayDepth(seconds=30, waiting=3), DelayDepth(seconds=60, waiting=0))
    assert (paused.queues[0].ready, paused.queues[0].consumers) == (1, 0)
    assert found.to_dict()["queues"][0]["ready"] == 0


async def test_depths_of_queues_that_are_not_there_are_none(realm: Realm) -> None:
    """A fleet that has never run has declared nothing; looking declares nothing either, and the next look works."""
    fleet = counted(realm)
    async with fleet.depths() as depths:
        for _ in range(2):
            found = await depths.look()
            assert [(queue.ready, queue.consumers, queue.dead) for queue in found.queues] == [(None, None, None)] * 2
            assert {delay.waiting for delay in found.delays} == {None}
