"""``--health-file``."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from kombu_actors.fleet import Fleet
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.hosting import HealthFile
from kombu_actors.transport.memory import memory_broker
from tests.fleet.support import PATIENCE, eventually

PROBE = "test $(( $(date +%s) - $(stat -c %Y {file}) )) -lt 15"
"""As docs/deploying.md has it."""


def shop(name: str) -> Fleet:
    fleet = Fleet(f"memory://{name}", name="shop")

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    return fleet


async def test_the_file_is_there_while_every_consumer_consumes(tmp_path: Path) -> None:
    """Not before, not while the broker is away, not after; what a killed process left is removed."""
    file = tmp_path / "ready"
    file.write_text("left behind")
    program = SingleProcess(shop("file"))
    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(HealthFile(file), program)
            assert not file.exists()
            async with trio.open_nursery() as running:
                await running.start(partial(program.run, signals=False))
                await eventually(file.exists)
                probe = ["sh", "-c", PROBE.format(file=file)]
                assert (await trio.run_process(probe)).returncode == 0
                memory_broker("file").refuse(True)
                memory_broker("file").cut()
                await eventually(lambda: not file.exists())
                with pytest.raises(subprocess.CalledProcessError):
                    await trio.run_process(probe, capture_stderr=True)
                memory_broker("file").refuse(False)
                await eventually(file.exists)
                program.stop("the test is over")
            nursery.cancel_scope.cancel()
    assert not file.exists()


async def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    """Before the program runs."""
    with pytest.raises(OSError, match=r"the health file .* can't be written: No such file or directory"):
        await HealthFile(tmp_path / "nowhere" / "ready")(SingleProcess(shop("unwritten")))
