"""What can be done from the page, each on the record."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import attrs
import trio

from ...errors import KombuError
from ...fleet.errors import FleetError, FleetMistake
from ...fleet.events import OperatorActed
from ...fleet.program import Happened, Program
from .letters import REPLAY_LIMIT

__all__ = ["ACTIONS", "Done", "act"]

ACTIONS = ("pause", "resume", "restart", "reload", "replay")

logger = logging.getLogger("kombu_actors.fleet")


@attrs.frozen
class Done:
    """How an action ended."""

    well: bool
    words: str
    """For people: what was done, or why it wasn't."""


async def act(program: Program, name: str, given: Mapping[str, str], who: str) -> Done:
    """Do it, and put it on record, well or not: in the events, and the log."""
    try:
        words = await _do(program, name, given)
        done = Done(True, words)
    except (FleetError, FleetMistake, KombuError) as error:
        done = Done(False, f"{name} failed: {error}")
    except KeyError as error:
        return Done(False, f"{name} takes {error.args[0]!r}")
    logger.log(logging.INFO if done.well else logging.WARNING, "%s (from the status page, by %s)", done.words, who)
    now, wall = trio.current_time(), time.time()
    event = OperatorActed(path="", at=now, wall=wall, action=done.words, who=who)
    program.tell(Happened(path="", at=now, wall=wall, process=None, record=event.to_dict()))
    return done


async def _do(program: Program, name: str, given: Mapping[str, str]) -> str:
    match name:
        case "pause":
            await program.pause(given["queue"])
            return f"paused {given['queue']}"
        case "resume":
            await program.resume(given["queue"])
            return f"resumed {given['queue']}"
        case "restart":
            process = int(given["process"]) if given.get("process", "").isdecimal() else None
            await program.restart(given["path"], process)
            return f"restarted {given['path']}" + ("" if process is None else f" of process {process}")
        case "reload":
            await program.reload()
            return "replaced each process by a new one"
        case "replay":
            return await _replay(program, given)
    raise FleetMistake(f"there is no action {name!r:.80}, only {', '.join(ACTIONS)}")


async def _replay(program: Program, given: Mapping[str, str]) -> str:
    queue, limit = given["queue"], given.get("limit") or str(REPLAY_LIMIT)
    if not limit.isdecimal() or not 0 < int(limit) <= REPLAY_LIMIT:
        raise FleetMistake(f"limit takes 1 to {REPLAY_LIMIT} letters, not {limit!r:.80}")
    async with program.fleet.dead_letters(queue) as dead:
        replayed = await dead.replay(error=given.get("error"), limit=int(limit))
    which = f" of {given['error']}" if given.get("error") else ""
    return f"{queue}: {replayed}{which}"
