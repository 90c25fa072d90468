"""A fleet as a program: its status is a verdict with reasons, events reach readers who were there first."""

from __future__ import annotations

import json
from functools import partial

import pytest
import trio

from kombu_actors.fleet import Fleet, FleetError
from kombu_actors.fleet._standing import standing
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.fleet.status import ProcessState
from kombu_actors.transport.memory import memory_broker

from .support import PATIENCE, eventually


def shop(name: str) -> Fleet:
    fleet = Fleet(f"memory://{name}", name="shop")

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    @fleet.consumer("others")
    async def handle_others(payload: str) -> None: ...

    return fleet


async def test_a_status_says_ready_or_why_not() -> None:
    """STARTING before, READY while every consumer consumes, DEGRADED with the actor and its error when one can't."""
    program = SingleProcess(shop("status"))
    before = program.status()
    assert (before.state, before.ready) == (ProcessState.STARTING, False)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            assert program.status().ready
            assert program.status().reasons == ()
            memory_broker("status").refuse(True)
            memory_broker("status").cut()
            await eventually(lambda: "refuses connections" in " ".join(program.status().reasons))
            status = program.status()
            assert status.state is ProcessState.DEGRADED
            assert "session is backing off" in status.reasons[0]
            assert "refuses connections" in status.reasons[0]
            assert json.loads(json.dumps(status.to_dict()))["processes"][0]["state"] == "degraded"
            memory_broker("status").refuse(False)
            await eventually(lambda: program.status().ready)
            program.stop("the test is over")
            assert program.status().state is ProcessState.DRAINING


async def test_a_reader_of_events_that_was_there_first_hears_the_start() -> None:
    """Each event says its process, and is JSON."""
    program = SingleProcess(shop("events"))
    with trio.fail_after(PATIENCE):
        async with program.events() as stream, trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            first = await anext(stream)
            assert json.loads(json.dumps(first.to_dict()))["process"] == 1
            seen = {first.path}
            while "work/consumers/jobs" not in seen:
                seen.add((await anext(stream)).path)
            program.stop("the test is over")


async def test_an_actor_is_restarted_by_hand() -> None:
    """It gets a new incarnation; a path where there is none is refused, and so is a process that isn't there."""
    fleet = shop("restart")
    program = SingleProcess(fleet)
    path = "work/consumers/jobs"

    def epoch() -> int:
        view = fleet.snapshot().tree.find(path)
        assert view is not None
        return view.epoch

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            await program.restart(path)
            await eventually(lambda: epoch() == 2 and program.status().ready)
            with pytest.raises(FleetError, match="no actor 'work/nobody'"):
                await program.restart("work/nobody")
            with pytest.raises(FleetError, match="no process 2"):
                await program.restart(path, process=2)
            with pytest.raises(FleetError, match="--processes"):
                await program.reload()
            program.stop("the test is over")


async def test_a_paused_queue_is_no_reason_to_be_degraded() -> None:
    """An operator wants it so."""
    fleet = shop("paused")
    program = SingleProcess(fleet)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            await program.pause("jobs")
            assert program.status().ready
            await program.resume("jobs")
            program.stop("the test is over")


def test_nothing_seen_yet_is_starting() -> None:
    """A process that has not told of itself is on its way."""
    assert standing(None)[0] is ProcessState.STARTING
