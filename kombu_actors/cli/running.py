"""From how a run of a fleet ended to the process's exit code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio

from ..errors import KombuError
from ..fleet import FleetMistake
from ..fleet.certificate import Certificate
from ..fleet.program import Program
from ..supervisors import Escalation
from .exits import BUDGET_SPENT, COLD, DRAINED, NO_BROKER, USAGE

__all__ = ["Companion", "run_program"]

logger = logging.getLogger("kombu_actors.fleet")


class Companion(Protocol):
    """Something that runs beside a program: it serves status, tells an init system, ...

    It is begun before the program, so that what happens at the start can be seen, and cancelled when that has ended.
    """

    async def __call__(self, program: Program, *, task_status: trio.TaskStatus[None]) -> None:
        """Call ``task_status.started()`` soon; raise ``OSError`` when it can't, for the program doesn't run then."""


def run_program(program: Program, certificate: Path | None = None, companions: Sequence[Companion] = ()) -> int:
    """Run it in this process's main thread until a signal; return the exit code, having said why it isn't 0."""
    name = program.fleet.name
    try:
        made = trio.run(_run, program, certificate, companions)
    except FleetMistake as error:
        logger.critical("%s", error)
        return USAGE
    except Escalation as error:
        logger.critical("fleet %r gave up: %s", name, error)
        return BUDGET_SPENT
    except KombuError as error:
        logger.critical("fleet %r has no broker: %s", name, error)
        return NO_BROKER
    except OSError as error:
        logger.critical("fleet %r can't run: %s", name, error)
        return USAGE
    return COLD if made.cold else DRAINED


async def _run(program: Program, certificate: Path | None, companions: Sequence[Companion]) -> Certificate:
    failure: Exception | None = None
    made: Certificate | None = None
    async with trio.open_nursery() as nursery:
        try:
            for companion in companions:
                await nursery.start(companion, program)
            made = await program.run(signals=True, certificate=certificate)
        except Exception as error:
            failure = error  # bare, not in the nursery's group
        nursery.cancel_scope.cancel(reason="the program has ended")
    if made is None:
        raise failure or RuntimeError("the program ended without a word")
    return made
