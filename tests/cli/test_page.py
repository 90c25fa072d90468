"""The page's flags: who may act, and where the token is."""

from __future__ import annotations

import re
import signal
import stat
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest
from click.testing import CliRunner

from kombu_actors.cli.verbs import program
from tests.support.processes import free_port, wait_until

from .program import HERE, running

TOKEN = "correct horse battery"


def pause(port: int, token: str) -> str:
    """Pause a queue."""
    return act(port, token, "pause", b"queue=shop.work")


def act(port: int, token: str, action: str, form: bytes) -> str:
    """Act by the page's path; the answer."""
    request = Request(f"http://127.0.0.1:{port}/page/actions/{action}", data=form)
    request.add_header("authorization", f"Bearer {token}")
    with urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def test_a_token_is_made_and_told_of_once(redis_url: str, tmp_path: Path) -> None:
    """In a file of this user's alone; the log says where it is, not what it is, and neither does ``ps``."""
    port = free_port()
    environment = {"SHOP_URL": redis_url, "XDG_RUNTIME_DIR": str(tmp_path)}
    with running("run", "shop:fleet", "--http", str(port), "--allow-actions", environment=environment) as process:
        process.wait_for("status is served")
        process.wait_for("READY")
        told = re.findall(r"a token for actions has been made: it is in (\S+)", "".join(process.err))
        path = Path(told[0])
        token = path.read_text().strip()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert token not in "".join(process.err)
        assert token not in " ".join(psutil.Process(process.process.pid).cmdline())
        assert "paused shop.work" in pause(port, token)
    with running("run", "shop:fleet", "--http", str(port), "--allow-actions", environment=environment) as process:
        process.wait_for("READY")
        assert "has been made" not in "".join(process.err)
        assert "paused shop.work" in pause(port, token)


def test_the_token_may_come_from_the_environment(redis_url: str) -> None:
    """And each flag has its twin there."""
    port = free_port()
    environment = {"SHOP_URL": redis_url, "KOMBU_ACTORS_HTTP": str(port), "KOMBU_ACTORS_ALLOW_ACTIONS": "1"}
    with running("run", "shop:fleet", environment={**environment, "KOMBU_ACTORS_TOKEN": TOKEN}) as process:
        process.wait_for("READY")
        assert "paused shop.work" in pause(port, TOKEN)
        assert TOKEN not in "".join(process.err)


def test_workers_are_replaced_from_the_page_and_leave_their_certificate(redis_url: str) -> None:
    """The parent's: it shows the new one, and what became of the messages of the old one."""
    port = free_port()
    environment = {"SHOP_URL": redis_url, "KOMBU_ACTORS_TOKEN": TOKEN}
    arguments = ("run", "shop:fleet", "-p", "1", "--http", str(port), "--allow-actions")

    def page() -> str:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            return str(answer.read().decode())

    with running(*arguments, environment=environment) as process:
        process.wait_for("status is served")
        wait_until(lambda: "Every consumer consumes" in page(), timeout=60, waiting_for="the worker")
        assert "replaced each process" in act(port, TOKEN, "reload", b"")
        wait_until(lambda: 'id="certificate-' in page(), timeout=60, waiting_for="the certificate")
        shown = page()
        assert 'data-label="Generation">2<' in shown
        assert "operator: replaced each process by a new one" in shown
        process.send(signal.SIGTERM)
        assert process.wait().code == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["--allow-actions"], {}, "--allow-actions is about the page that --http serves"),
        (["--http", "0", "--allow-actions"], {"KOMBU_ACTORS_TOKEN": "short"}, "at least 16 printable"),
        (["--http", "0", "--allow-actions", "--token-file", "/nowhere/token"], {}, "/nowhere/token"),
    ],
)
def test_what_would_protect_nothing_is_refused(
    arguments: list[str], environment: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a line, and with exit code 2."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr("sys.path", [str(HERE), *sys.path])
    ended = CliRunner().invoke(program, ["run", "shop:fleet", *arguments], env=environment)
    assert ended.exit_code == 2
    assert text in " ".join(ended.output.split())
    assert "short" not in ended.output.replace("shortly", "")
