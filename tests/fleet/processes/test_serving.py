"""Workers serve, are seen and steered as one program, and end in order."""

from __future__ import annotations

import os
import signal
import time

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.fleet import FleetError
from kombu_actors.fleet.status import ProcessState
from tests.conformance.realms import Realm
from tests.fleet.support import eventually, ready, take, wait_ready

from .support import Load, declare, running, take_all


async def test_all_processes_handle_and_one_certificate_counts_all(realm: Realm, broker: Broker) -> None:
    """The status has each process with its own view; the certificate is the sum."""
    await declare(broker, "numbers.done")
    async with running(realm) as watched:
        status = watched.program.status()
        assert status.state is ProcessState.READY
        assert [process.number for process in status.processes] == [1, 2]
        assert len({process.pid for process in status.processes} | {os.getpid()}) == 3
        assert all(process.rss > 2**20 for process in status.processes)
        assert all(process.fleet is not None for process in status.processes)
        assert status.tree is not None
        assert [child["id"] for child in status.tree["children"]] == ["process-1", "process-2"]
        for number in range(100):
            await broker.publish(number, routing_key="numbers")
        done = [message.payload_as(dict) for message in await take(broker, "numbers.done", 100)]
        assert sorted(each["number"] for each in done) == [*range(100)]
        assert {each["pid"] for each in done} <= set(watched.pids())
    certificate = watched.program.certificate
    assert certificate is not None
    assert (certificate.cold, certificate.deaths) == (False, 0)
    count = certificate.queues["numbers"]
    assert count.acked == 100
    assert count.received == 100 + count.returned


async def test_a_process_that_is_killed_is_replaced_within_a_second(realm: Realm, broker: Broker) -> None:
    """The others work on meanwhile: of what is published in the second after, they handle most in it."""
    await declare(broker, "numbers.done")
    async with running(realm, count=4) as watched:
        pids = watched.pids()
        async with trio.open_nursery() as nursery:
            load = Load(broker)
            await nursery.start(load.run)
            await trio.sleep(1.0)  # at its pace
            began = time.monotonic()
            os.kill(pids[1], signal.SIGKILL)
            before, handled = load.published, await broker.inspect_queue("numbers.done")
            await trio.sleep(1.0)
            published = load.published - before
            handled_then = (await broker.inspect_queue("numbers.done")).messages - handled.messages
            ready_again = await watched.wait_event("process_ready", count=2, process=2)
            took = time.monotonic() - began
            nursery.cancel_scope.cancel()
        assert handled_then > 0.7 * published
        # A second; where the machine has other things to do, as long as four at once have taken before.
        first = [event.record["seconds"] for event in watched.named("process_ready")[:4]]
        assert took < max(1.0, 2 * max(first))
        died = await watched.wait_event("process_died", process=2)
        assert "killed by signal 9 (SIGKILL)" in died.record["why"]
        after = watched.pids()
        assert after[1] == ready_again.record["pid"]
        assert [after[0], *after[2:]] == [pids[0], *pids[2:]]
        assert watched.program.processes()[1].generation == 2
        await take_all(broker, "numbers.done", "number", {*range(load.published)})
    assert watched.program.certificate is not None
    assert watched.program.certificate.deaths == 1


async def test_a_queue_is_paused_in_every_process_and_in_those_that_come(realm: Realm, broker: Broker) -> None:
    """An unknown queue is refused; resumed, all go on."""
    await declare(broker, "numbers.done")
    async with running(realm) as watched:
        with pytest.raises(FleetError, match="no consumer of queue 'nobody'"):
            await watched.program.pause("nobody")
        await watched.program.pause("numbers")
        os.kill(watched.pids()[0], signal.SIGKILL)
        await watched.wait_event("process_ready", count=2, process=1)
        await broker.publish(1, routing_key="numbers")
        await wait_ready(broker, "numbers", 1)
        await eventually(lambda: watched.program.status().ready)
        for process in watched.program.processes():
            assert process.fleet is not None
            assert {one["queue"] for one in process.fleet["consumers"] if one["paused"]} == {"numbers"}
        assert await ready(broker, "numbers") == 1
        await watched.program.resume("numbers")
        await take(broker, "numbers.done")


async def test_an_actor_is_restarted_by_hand_in_one_process_or_all(realm: Realm) -> None:
    """Where there is none, the process says so."""
    async with running(realm) as watched:
        await watched.program.restart("work/consumers/numbers", process=2)
        await watched.wait_event("child_ready", count=2, process=2, path="work/consumers/numbers")
        with pytest.raises(FleetError, match=r"process 1: .*no actor 'work/nobody'"):
            await watched.program.restart("work/nobody", process=1)
        with pytest.raises(FleetError, match="no process 3"):
            await watched.program.restart("work/consumers/numbers", process=3)


async def test_a_stop_at_once_gives_back_what_is_at_work(realm: Realm, broker: Broker) -> None:
    """Handlers are cancelled in every process, and the certificate is cold."""
    await declare(broker, "work.begun", "work.done")
    async with running(realm) as watched:
        for _ in range(6):
            await broker.publish({"seconds": 3600.0}, routing_key="work")
        await wait_ready(broker, "work.begun", 6)
        watched.program.stop("a test", at_once=True)
    certificate = watched.program.certificate
    assert certificate is not None
    assert certificate.cold
    count = certificate.queues["work"]
    assert count.returned == count.received >= 6  # one process may be given what another has just given back
    await wait_ready(broker, "work", 6)


async def test_a_stopped_process_is_noticed_killed_and_replaced(realm: Realm) -> None:
    """By its missing beat; SIGSTOP ends nothing and closes nothing."""
    async with running(realm, silence=2.0) as watched:
        pid = watched.pids()[0]
        os.kill(pid, signal.SIGSTOP)
        silent = await watched.wait_event("process_silent", process=1)
        assert silent.record["pid"] == pid
        died = await watched.wait_event("process_died", process=1)
        assert "said nothing for 2 s" in died.record["why"]
        await watched.wait_event("process_ready", count=2, process=1)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_cancelled_it_drains(realm: Realm, broker: Broker) -> None:
    """As any fleet."""
    await declare(broker, "work.begun", "work.done")
    async with running(realm) as watched:
        await broker.publish({"seconds": 0.3}, routing_key="work")
        await wait_ready(broker, "work.begun", 1)
        watched.scope.cancel()
    assert await ready(broker, "work.done") == 1
