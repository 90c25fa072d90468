"""What ``kombu-actors run --processes`` executes for each worker: ``python -m kombu_actors.cli.worker DESCRIPTOR ...``.

Arguments behind the descriptor are for people who look at processes.
"""

from __future__ import annotations

import sys

from ..fleet._custody import Custody
from ..fleet.processes.task import Task
from ..fleet.processes.worker import BadFrame, Reporter, first_record
from ..fleet.program import SingleProcess
from .exits import COLD, USAGE
from .locating import locate
from .logs import set_up_logging
from .running import logger, run_program

__all__ = ["main"]


def main() -> int:
    """Run the fleet that the parent names; return the exit code."""
    try:
        sock, start = first_record(int(sys.argv[1]))
    except BadFrame:
        return COLD  # the parent is gone
    task = Task.of(start["task"])
    set_up_logging(task.log_level, as_json=task.log_json, process=start["number"])
    try:
        fleet = locate(task.fleet).on(task.url, queues=task.queues, **task.changes)
    except ValueError as error:
        logger.critical("%s", error)
        return USAGE
    fleet.custody = custody = Custody(start["hands"])
    program = SingleProcess(fleet, paused=start["paused"], wait_for_broker=start["wait_for_broker"])
    return run_program(program, companions=[Reporter(sock, program, custody, silence=start["silence"])])


if __name__ == "__main__":
    sys.exit(main())
