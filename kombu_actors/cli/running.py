"""From how a run of a fleet ended to the process's exit code."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import KombuError
from ..fleet import Fleet, FleetMistake
from ..supervisors import Escalation
from .exits import BUDGET_SPENT, COLD, DRAINED, NO_BROKER, USAGE

__all__ = ["run_fleet"]

logger = logging.getLogger("kombu_actors.fleet")


def run_fleet(fleet: Fleet, certificate: Path | None) -> int:
    """Run it in this process's main thread until a signal; return the exit code, having said why it isn't 0."""
    try:
        made = fleet.run_sync(certificate=certificate)
    except FleetMistake as error:
        logger.critical("%s", error)
        return USAGE
    except Escalation as error:
        logger.critical("fleet %r gave up: %s", fleet.name, error)
        return BUDGET_SPENT
    except KombuError as error:
        logger.critical("fleet %r has no broker: %s", fleet.name, error)
        return NO_BROKER
    return COLD if made.cold else DRAINED
