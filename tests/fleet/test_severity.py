"""How loud a fleet's log is about its actors: louder the longer something lasts."""

from __future__ import annotations

import logging

import pytest
import trio.testing

from kombu_actors.fleet import Fleet
from kombu_actors.transport.memory import memory_broker

from .support import eventually, running

ACTORS = "kombu_actors.fleet.actors"


async def test_a_failure_is_a_warning_and_one_that_lasts_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """From the third in a row on; that it serves again is said, too, and a start that went well is not."""
    caplog.set_level(logging.INFO, logger=ACTORS)
    broker = memory_broker("severity")
    fleet = Fleet("memory://severity", name="shop")

    @fleet.consumer("jobs")
    async def handle(job: str) -> None: ...

    def levels() -> list[int]:
        return [
            record.levelno for record in caplog.records if record.name == ACTORS and "session" in record.getMessage()
        ]

    async with running(fleet):
        await trio.testing.wait_all_tasks_blocked()
        assert levels() == []
        broker.refuse(True)
        broker.cut()
        await eventually(lambda: logging.ERROR in levels())
        assert levels()[0] == logging.WARNING
        broker.refuse(False)
        await eventually(lambda: levels()[-1] == logging.INFO)
