"""Workers are replaced in order: by hand, for their age, one at a time, and never by something worse."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.fleet import FleetError
from kombu_actors.fleet.processes import Recycling
from tests.conformance.realms import Realm
from tests.fleet.support import eventually, take

from .support import Load, Watched, declare, running


def kept() -> list[str]:
    """What this process holds open of worker processes."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            links.append(os.readlink(f"/proc/self/fd/{name}"))
    return [link for link in links if "pidfd" in link or "memfd:kombu_actors" in link]


async def check_under_load(broker: Broker, watched: Watched, change: str) -> None:
    """While messages flow all processes are replaced: each message is handled once."""
    load = Load(broker)
    async with trio.open_nursery() as nursery:
        await nursery.start(load.run)
        if change == "reload":
            await watched.program.reload()
        await watched.wait_event("process_ended", count=len(watched.program.processes()))
        nursery.cancel_scope.cancel()
    done = [message.payload_as(dict)["number"] for message in await take(broker, "numbers.done", load.published)]
    assert Counter(done) == Counter(range(load.published))


async def test_a_reload_under_load_loses_nothing_and_does_nothing_twice(realm: Realm, broker: Broker) -> None:
    """A new process is READY before an old one drains, and there is one more than usual at most."""
    await declare(broker, "numbers.done")
    async with running(realm) as watched:
        before = watched.pids()
        await check_under_load(broker, watched, "reload")
        after = watched.pids()
        assert not {*before} & {*after}
        assert len(kept()) == 4  # two of each process, nothing of those that are gone
        assert [one.generation for one in watched.program.processes()] == [2, 2]
        order = [
            (event.record["event"], event.process)
            for event in watched.events
            if event.record["event"] in ("process_ready", "process_replaced", "process_ended")
        ]
        each = ("process_ready", "process_replaced", "process_ended")
        assert order[2:] == [(name, process) for process in (1, 2) for name in each]
    assert watched.program.certificate is not None
    assert watched.program.certificate.deaths == 0


async def test_processes_are_replaced_when_they_have_handled_enough(realm: Realm, broker: Broker) -> None:
    """Under load, one after the other: nothing is lost or done twice, and none exceeds its limit by much."""
    await declare(broker, "numbers.done")
    async with running(realm, recycling=Recycling(max_messages=50)) as watched:
        await check_under_load(broker, watched, "recycling")
        reasons = [event.record["reason"] for event in watched.named("process_replaced")]
        assert reasons
        assert all(reason.startswith("it has handled ") for reason in reasons)


async def test_processes_are_replaced_for_their_memory(realm: Realm) -> None:
    """By what they really keep; the reason is told."""
    async with running(realm, count=1, recycling=Recycling(max_memory=2**20)) as watched:
        replaced = await watched.wait_event("process_replaced")
        assert "MiB of memory" in replaced.record["reason"]


async def test_a_new_process_that_fails_leaves_the_old_ones_in_place(
    realm: Realm, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that can't start ends at its first process: the caller hears of it, and the fleet serves on."""
    await declare(broker, "numbers.done")
    async with running(realm) as watched:
        before = watched.pids()
        monkeypatch.setenv("SHOP_BROKEN", "yes")
        with pytest.raises(FleetError, match=r"process 1 .*generation 2.* ended by itself with exit code 2 before"):
            await watched.program.reload()
        assert watched.pids() == before
        await broker.publish(1, routing_key="numbers")
        await take(broker, "numbers.done")
        monkeypatch.delenv("SHOP_BROKEN")
        await watched.program.restart("process-2")
        assert watched.pids()[0] == before[0]
        assert watched.pids()[1] != before[1]


async def test_a_process_that_dies_while_its_successor_starts_is_not_waited_for(realm: Realm) -> None:
    """The successor takes its place; nothing of the budget is spent."""
    async with running(realm, count=1) as watched:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.program.reload)
            await watched.wait_event("process_started", count=2)
            os.kill(watched.pids()[0], signal.SIGKILL)
        await watched.wait_event("process_died")
        await eventually(lambda: watched.program.status().ready)
        tree = watched.program.tree()
        assert tree is not None
        assert tree["children"][0]["restarts"] == 0
        assert watched.program.processes()[0].generation == 2


def test_due_is_spread_and_never_late() -> None:
    """Each process draws its own limit of messages and of age, up to a fifth below; memory is as given."""
    limits = Recycling(max_messages=1000, max_memory=100 * 2**20, max_age=60.0)

    def due(*, messages: int = 0, memory: int = 0, age: float = 0.0, draw: float) -> str | None:
        return limits.due(messages=messages, memory=memory, age=age, draw=draw)

    assert due(draw=0.99) is None
    assert due(messages=999, draw=0.0) is None
    assert due(messages=1000, draw=0.0) == "it has handled 1000 messages"
    assert due(messages=800, draw=1.0) == "it has handled 800 messages"
    assert due(age=47.9, draw=1.0) is None
    assert due(age=48.0, draw=1.0) == "it is 48 s old"
    assert due(memory=101 * 2**20, draw=0.5) == "it keeps 101 MiB of memory"
    assert Recycling().due(messages=10**9, memory=10**12, age=1e9, draw=0.0) is None
