"""A fleet ends in order: nothing is lost, and its certificate says where everything went."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.errors import BrokerUnreachable
from kombu_actors.fleet import FleetError, FleetMistake
from tests.conformance.realms import Realm

from .support import PATIENCE, make_fleet, ready, running, wait_ready


async def test_a_drain_lets_handlers_finish_and_returns_the_rest(realm: Realm, broker: Broker, tmp_path: Path) -> None:
    """What had begun is acked, what had not is back in the queue; the file says the same as the result."""
    fleet = make_fleet(realm)
    begun, go_on = trio.Event(), trio.Event()

    @fleet.consumer("jobs", concurrency=2, prefetch=5)
    async def handle(payload: int) -> None:
        if payload == 1:
            begun.set()
        await go_on.wait()

    certificates = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        certificates.append(await fleet.run(certificate=tmp_path / "certificate.json", task_status=task_status))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            await broker.publish_many(range(7), routing_key="jobs")
            await begun.wait()
            fleet.drain()
            await wait_ready(broker, "jobs", 5)
            go_on.set()
    [made] = certificates
    count = made.queues["jobs"]
    assert (count.acked, count.missing) == (2, 0)
    assert 2 + count.returned == count.received <= 7
    assert await ready(broker, "jobs") == 5
    assert (made.cold, made.balanced) == (False, True)
    assert json.loads((tmp_path / "certificate.json").read_text()) == made.to_dict()
    assert os.listdir(tmp_path) == ["certificate.json"]


async def test_past_the_drain_timeout_handlers_are_cancelled(realm: Realm, broker: Broker) -> None:
    """Their messages go back, as no attempt; the certificate is cold."""
    fleet = make_fleet(realm, drain_timeout=0.2)
    begun = trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: int) -> None:
        begun.set()
        await trio.sleep_forever()

    async with running(fleet) as left:
        await broker.publish(1, routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await begun.wait()
    assert left.certificate.cold
    assert left.certificate.queues["jobs"].returned == 1
    message = await broker.get("jobs")
    assert message is not None
    assert "ka-attempt" not in message.headers
    message.ack()


async def test_a_stop_cancels_at_once(realm: Realm, broker: Broker) -> None:
    """Well within two seconds, whatever the drain timeout is."""
    fleet = make_fleet(realm, drain_timeout=60)
    begun = trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: int) -> None:
        begun.set()
        await trio.sleep_forever()

    async with running(fleet) as left:
        await broker.publish(1, routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await begun.wait()
        fleet.drain()
        began = trio.current_time()
        fleet.stop()
    assert trio.current_time() - began < 2.0
    assert left.certificate.cold
    assert await ready(broker, "jobs") == 1


async def test_a_cancelled_scope_drains(realm: Realm, broker: Broker) -> None:
    """``run`` in a scope that is cancelled lets its handlers finish first."""
    fleet = make_fleet(realm)
    begun, done = trio.Event(), trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None:
        begun.set()
        await trio.sleep(0.2)
        done.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(fleet.run)
            await broker.publish("a", routing_key="jobs")
            await begun.wait()
            nursery.cancel_scope.cancel()
    assert done.is_set()
    assert await ready(broker, "jobs") == 0


async def test_without_a_broker_it_does_not_start(realm: Realm) -> None:
    """The first failure to connect is raised bare; nothing is tried again."""
    fleet = make_fleet(realm).on(realm.dead)

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    with trio.fail_after(PATIENCE), pytest.raises(BrokerUnreachable):
        await fleet.run()


async def test_what_is_not_running_says_so() -> None:
    """Nothing to run, nothing to see, and not twice."""
    from kombu_actors.fleet import Fleet

    fleet = Fleet("memory://twice")
    with pytest.raises(FleetMistake, match="has nothing to do"):
        await fleet.run()

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    with pytest.raises(FleetError, match="is not running"):
        fleet.snapshot()
    async with running(fleet):
        with pytest.raises(FleetError, match="is running already"):
            await fleet.run()
        with pytest.raises(FleetError, match=r"no consumer of queue 'other', only of \['jobs'\]"):
            await fleet.pause("other")
