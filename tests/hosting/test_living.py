"""What counts as alive, and as ending."""

from __future__ import annotations

import time

import pytest

from kombu_actors.fleet.status import ProcessState, ProcessStatus, Status
from kombu_actors.hosting.living import SILENT, alive, ending

NOW = time.time()


def process(state: ProcessState, beat_age: float = 0.0) -> ProcessStatus:
    return ProcessStatus(number=1, pid=1, generation=1, state=state, since=NOW, beat_age=beat_age)


def status(*processes: ProcessStatus) -> Status:
    state = ProcessState.READY
    return Status(
        fleet="shop", version="1", host="h", pid=1, began_at=NOW, at=NOW, state=state, reasons=(), processes=processes
    )


READY, DRAINING, GONE = (process(one) for one in (ProcessState.READY, ProcessState.DRAINING, ProcessState.GONE))
SILENT_ONE = process(ProcessState.READY, SILENT + 1)
BACKING_OFF = process(ProcessState.BACKING_OFF, SILENT + 1)


@pytest.mark.parametrize("processes", [(), (READY, SILENT_ONE), (BACKING_OFF,), (GONE,), (BACKING_OFF, READY)])
def test_a_program_lives_while_its_parent_can_help(processes: tuple[ProcessStatus, ...]) -> None:
    """One process that beats is enough; those that wait to be started again are being seen to."""
    assert alive(status(*processes)) == (True, "alive")


def test_a_parent_is_dead_when_nobody_has_been_heard_of() -> None:
    """It should have replaced them long ago."""
    assert alive(status(SILENT_ONE, SILENT_ONE, BACKING_OFF)) == (False, "no process has been heard of for 31 s")


def test_a_process_that_is_replaced_is_no_end() -> None:
    """The program ends when all of its processes do."""
    assert ending(status(DRAINING, GONE))
    assert not ending(status(DRAINING, READY))
    assert not ending(status(READY))
    assert not ending(status())
