"""The control socket: whose it is, where it is, and what it bears."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kombu_actors.control import _answering
from kombu_actors.control.client import Control, NobodyAnswers, Refused, find
from kombu_actors.control.places import PATH_MAX, file_name, own_directory
from kombu_actors.control.server import CONNECTIONS_MAX, ControlSocket
from kombu_actors.control.wire import REQUEST_MAX
from kombu_actors.fleet import Fleet, Retry
from kombu_actors.fleet.program import SingleProcess
from tests.fleet.support import PATIENCE

NOBODY = 65534


def fleet() -> Fleet:
    made = Fleet("memory://control", name="control", retry=Retry(delays=()))

    @made.consumer("numbers")
    async def work(number: int) -> None: ...

    return made


@asynccontextmanager
async def served(path: Path | None) -> AsyncIterator[SingleProcess]:
    """A fleet that runs with its control socket."""
    program = SingleProcess(fleet())
    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlSocket(None if path is None else str(path)), program)
            async with trio.open_nursery() as inner:

                async def run(task_status: trio.TaskStatus[None]) -> None:
                    await program.run(signals=False, task_status=task_status)

                await inner.start(run)
                try:
                    yield program
                finally:
                    program.stop("the test is over")
            nursery.cancel_scope.cancel()


async def ask(path: Path, verb: str, **arguments: Any) -> Any:
    """Ask with the blocking client."""

    def asked() -> Any:
        with Control(str(path)) as control:
            return control.ask(verb, **arguments)

    return await trio.to_thread.run_sync(asked)


async def test_it_is_its_users_alone_and_goes_with_the_program(tmp_path: Path) -> None:
    """Mode 0600 from the first moment on; no file is left."""
    path = tmp_path / "control.sock"
    async with served(path):
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert mode(path) == 0o600
        status = await ask(path, "status")
        assert (status["fleet"], status["control"]) == ("control", str(path))
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_is_refused(tmp_path: Path) -> None:
    """Also where the file's mode would let them in: the kernel says who asks."""
    path = tmp_path / "control.sock"
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        'print(s.makefile("r").readline())'
    )
    async with served(path):
        for above in (tmp_path, *tmp_path.parents):
            if above == Path(tempfile.gettempdir()):
                break
            above.chmod(0o755)
        path.chmod(0o666)
        done = await trio.run_process(
            ["/usr/bin/env", "-i", "python3", "-c", code, str(path)], user=NOBODY, capture_stdout=True, cwd="/"
        )
    assert json.loads(done.stdout) == {"error": "this fleet is another user's", "exit": 1}


async def test_a_socket_that_was_left_is_replaced_and_one_that_serves_is_not(tmp_path: Path) -> None:
    """Nor is anything else that is there."""
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with served(path) as program:
        with pytest.raises(OSError, match="another program listens there already"):
            await ControlSocket(str(path))(program, task_status=trio.TASK_STATUS_IGNORED)
        assert (await ask(path, "health"))["ready"]
    path.write_text("mine")
    with pytest.raises(OSError, match="no socket"):
        await ControlSocket(str(path))(program, task_status=trio.TASK_STATUS_IGNORED)
    assert path.read_text() == "mine"


async def test_a_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    """With its length, and what to do."""
    path = tmp_path / ("x" * PATH_MAX)
    with pytest.raises(OSError, match=r"may have 107 bytes, and this has \d+: choose one with --control"):
        await ControlSocket(str(path))(SingleProcess(fleet()), task_status=trio.TASK_STATUS_IGNORED)


async def test_by_itself_it_is_where_verbs_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory of the user's alone; what killed processes have left there is removed."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    directory = Path(own_directory())
    assert mode(directory) == 0o700
    left = directory / file_name("control", pid_of_the_past())
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    with pytest.raises(NobodyAnswers):
        find(control=str(directory))
    async with served(None):
        path = await trio.to_thread.run_sync(lambda: find(fleet="control", control=str(directory)))
        assert path == str(directory / file_name("control", os.getpid()))
        assert not left.exists()
    await trio.to_thread.run_sync(directory.chmod, 0o755)
    with pytest.raises(OSError, match="this user's alone"):
        own_directory()


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def pid_of_the_past() -> int:
    """Of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(PATIENCE)
    return process.pid


async def test_what_is_no_request_is_answered_with_a_sentence(tmp_path: Path) -> None:
    """And the connection, and the fleet, go on; a request without an end does not."""
    path = tmp_path / "control.sock"
    async with served(path):
        stream = await trio.open_unix_socket(str(path))
        async with stream:
            for sent in (
                b"hello",
                b"[1]",
                b'{"verb": "fly"}',
                b'{"verb": "pause"}',
                b'{"verb": "health"}',
                b"[" * 99999,
            ):
                await stream.send_all(sent + b"\n")
            said = await lines(stream, 6)
        assert [one.get("exit") for one in said] == [2, 2, 2, 2, None, 2]
        assert "knows no verb 'fly', but dlq drop" in said[2]["error"]
        assert "'queue'" in said[3]["error"]
        assert said[4]["value"]["ready"]
        async with await trio.open_unix_socket(str(path)) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(b"x" * (REQUEST_MAX + 2**20))
        with pytest.raises(Refused, match=r"there is no queue 'other.dead'"):
            await ask(path, "dlq list", queue="other")
        assert (await ask(path, "health"))["ready"]


async def lines(stream: trio.SocketStream, count: int) -> list[dict[str, Any]]:
    """The next answers, without beats."""
    rest, found = b"", list[dict[str, Any]]()
    while len(found) < count:
        chunk = await stream.receive_some()
        assert chunk, found
        *whole, rest = (rest + chunk).split(b"\n")
        found += [one for one in map(json.loads, whole) if "beat" not in one]
    return found


async def test_work_for_an_asker_that_left_ends(tmp_path: Path) -> None:
    """A replay at one letter a minute goes no further when Ctrl-C ended its command."""
    path = tmp_path / "control.sock"
    async with served(path) as program:
        for number in range(3):
            await ask(path, "publish", queue="numbers", body=f"no number {number}")
        async with program.fleet.dead_letters("numbers") as dead, await trio.open_unix_socket(str(path)) as stream:
            while await dead.count() < 3:  # noqa: ASYNC110  # a broker tells only who asks
                await trio.sleep(0.01)
            await stream.send_all(b'{"verb": "dlq replay", "queue": "numbers", "rate": 0.016}\n')
            assert "beat" in json.loads(await stream.receive_some())
            await stream.aclose()
            while await dead.count() < 3:  # noqa: ASYNC110  # the first one has died again
                await trio.sleep(0.01)
            assert await dead.count() == 3


async def test_one_asker_too_many_is_told(tmp_path: Path) -> None:
    """The others go on, and the next one is served when one has left."""
    path = tmp_path / "control.sock"
    async with served(path):
        askers = [await trio.open_unix_socket(str(path)) for _ in range(CONNECTIONS_MAX)]
        for asker in askers:
            await asker.send_all(b'{"verb": "health"}\n')
            await lines(asker, 1)
        with pytest.raises(Refused, match="32 others are asking already"):
            await ask(path, "health")
        for asker in askers:
            await asker.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(path, "health"))["ready"]


async def test_an_asker_that_says_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute; here sooner."""
    monkeypatch.setattr(_answering, "REQUEST_WITHIN", 0.05)
    path = tmp_path / "control.sock"
    async with served(path), await trio.open_unix_socket(str(path)) as stream:
        with trio.fail_after(PATIENCE):
            assert await stream.receive_some() == b""
